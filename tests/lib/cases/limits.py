"""Limits on address space and on data: set before the start, by the program for itself, by a shell for another."""

import glob
import os
import sys

import cases
import quire
from checks import expect
from runner import MIB, run, scratch

BUDGET = 64 * MIB
# For python, which takes 1.4 GB under a limit in which it starts.
LARGE_BUDGET = 768 * MIB
# Each takes python 10 to 20 s.
FULL_LIMITS = ("-v 1433600", "-S -v 1433600", "-d 1433600")

# Python that sets a limit for itself, meets it in several ways, and goes on.
FILLS = """
import resource, subprocess, sys
limit = int(sys.argv[1]) << 20
if len(sys.argv) > 2:
    resource.setrlimit(getattr(resource, sys.argv[2]), (limit, limit))
    print(resource.getrlimit(getattr(resource, sys.argv[2])))
for size in (1000, 200_000, 1 << 20, 24 << 20):
    kept = []
    try:
        while len(kept) * size < 2 * limit:
            kept.append(bytearray(b"x") * size)
        print(size, "never")
    except MemoryError:
        part = len(kept) * size / limit
        kept = None
        print(size, "MemoryError", "after most of it" if 0.5 < part <= 1 else "after %.2f" % part)
print(subprocess.run(["sh", "-c", "ulimit -v; ulimit -d"], capture_output=True, text=True).stdout)
"""


def python(*words):
    return [sys.executable, "-c", FILLS, *words]


def shell(limit, *words):
    """`ulimit` in a shell that then becomes a program."""
    return ["sh", "-c", 'ulimit %s; exec "$@"' % limit, "sh", *words]


def check_before_quire(checks, scale):
    """The limit is quire's own too."""
    command = python("1400")
    for limit in FULL_LIMITS if scale.full else ("-d 1433600",):
        with checks.case("ulimit %s before quire run" % limit):
            native = run(shell(limit, *command))
            managed = run(shell(limit, *quire.command_line(command, LARGE_BUDGET, ["-q"])))
            cases.expect_same(native, managed)


def check_manages(checks):
    """A limit that a shell of the tree sets is met as natively, and is none for the memory that Quire itself needs."""
    with checks.case("a program under a shell's ulimit -v is managed"):
        native, managed, report = cases.both(shell("-S -v 1433600", *python("1400")), LARGE_BUDGET)
        cases.expect_same(native, managed)
        expect(managed.status == 0 and report["evicted_behind_pages"] > 1000, managed.describe())
        expect("unmanaged" not in managed.stderr, managed.last_words())


def dump_of(directory, command):
    """Runs a command that dies with a core dump. The file's apparent size, and how many of its lines are the program's."""
    run(["sh", "-c", 'cd "$0"; ulimit -c unlimited; exec "$@"', directory, *command], timeout=cases.TIMEOUT)
    names = glob.glob(os.path.join(directory, "core*"))
    expect(len(names) == 1, "core files: %s" % names)
    with open(names[0], "rb") as file:
        return os.path.getsize(names[0]), file.read().count(b"a line of a core dump, 0")


def check_dumps(checks):
    """A core dump is about the program: it has what is resident, and neither frames nor free addresses."""
    with open("/proc/sys/kernel/core_pattern") as file:
        if file.read().startswith("|"):
            return
    program = cases.case_program("coredump")
    for name, size, budget in (("all resident", 16, None), ("most of it evicted", 128, 32 * MIB)):
        with checks.case("a core dump, %s" % name) as figures, scratch() as one, scratch() as other:
            native, lines = dump_of(one, [program, str(size)])
            dumped, found = dump_of(other, quire.command_line([program, str(size)], budget, ["-q"]))
            expect(dumped < native + 96 * MIB, "%d MiB, natively %d" % (dumped // MIB, native // MIB))
            expect(budget or found >= lines > 0, "%d lines, natively %d" % (found, lines))
            figures.append("%d MiB, natively %d" % (dumped // MIB, native // MIB))


def check(checks, scale):
    program = cases.case_program("limits", "-pthread")
    for kind in ("as", "data"):
        for what in ("meet", "read", "calls", "children", "pass"):
            # What takes longest is the same for both kinds.
            for budget in (None, BUDGET) if kind == "as" or scale.full else (None,):
                name = "limit on %s: %s%s" % (kind, what, ", with a budget" if budget else "")
                cases.same_as_native(checks, name, [program, what, kind], budget)
    for resource in ("RLIMIT_AS", "RLIMIT_DATA"):
        cases.same_as_native(checks, "python that sets %s" % resource, python("400", resource), BUDGET)
    for limit in FULL_LIMITS if scale.full else ():
        cases.same_as_native(checks, "ulimit %s in a shell" % limit, shell(limit, *python("1400")), LARGE_BUDGET)
    for limit in ("-s unlimited", "-s 1024"):
        cases.same_as_native(checks, "ulimit %s in a shell" % limit, shell(limit, program, "children"), BUDGET)
    for way in ("syscall", "device"):
        command = [cases.case_program("userfault", "-pthread"), way]
        cases.same_as_native(checks, "a userfaultfd of the program's own, by %s" % way, command, BUDGET)
    check_dumps(checks)
    check_before_quire(checks, scale)
    check_manages(checks)
