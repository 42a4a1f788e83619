"""Limits on address space and on data: set before the start, by the program for itself, by a shell for another."""

import glob
import os
import sys

import cases
import quire
from checks import expect
from runner import MIB, run, scratch

# For programs that have no size.
BUDGET = 24 * MIB
# A shell's limits before a program, or before quire: each takes python 10 to 20 s in full.
SHELL_LIMITS = ("-v", "-S -v", "-d")


class Sizes:
    """How large limits are, in MiB, and budgets in bytes: everything under a limit is several times its budget."""

    def __init__(self, full):
        # The program's limits, which are met seven times in a row.
        self.limit, self.budget = (512, 64 * MIB) if full else (128, 24 * MIB)
        self.python_limit, self.python_budget = (400, 64 * MIB) if full else (200, 32 * MIB)
        # A limit that a shell sets, where python has no other.
        self.shell_limit, self.shell_budget = (1400, 768 * MIB) if full else (400, 220 * MIB)

    def shell(self, kind):
        return "%s %d" % (kind, self.shell_limit << 10)

    def python(self):
        return python(str(self.shell_limit))


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


def check_before_quire(checks, scale, sizes):
    """The limit is quire's own too."""
    for kind in SHELL_LIMITS if scale.full else ("-d",):
        limit = sizes.shell(kind)
        with checks.case("ulimit %s before quire run" % limit):
            native = run(shell(limit, *sizes.python()))
            managed = run(shell(limit, *quire.command_line(sizes.python(), sizes.shell_budget, ["-q"])))
            cases.expect_same(native, managed)


def check_manages(checks, sizes):
    """A limit that a shell of the tree sets is met as natively, and is none for the memory that Quire itself needs."""
    with checks.case("a program under a shell's ulimit -v is managed"):
        native, managed, report = cases.both(shell(sizes.shell("-S -v"), *sizes.python()), sizes.shell_budget)
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
    sizes = Sizes(scale.full)
    for kind in ("as", "data"):
        for what in ("meet", "read", "calls", "children", "pass"):
            # What takes longest is the same for both kinds.
            for budget in (None, sizes.budget) if kind == "as" or scale.full else (None,):
                name = "limit on %s: %s%s" % (kind, what, ", with a budget" if budget else "")
                cases.same_as_native(checks, name, [program, what, kind, str(sizes.limit)], budget)
    for resource in ("RLIMIT_AS", "RLIMIT_DATA"):
        command = python(str(sizes.python_limit), resource)
        cases.same_as_native(checks, "python that sets %s" % resource, command, sizes.python_budget)
    for kind in SHELL_LIMITS if scale.full else ():
        limit = sizes.shell(kind)
        cases.same_as_native(checks, "ulimit %s in a shell" % limit, shell(limit, *sizes.python()), sizes.shell_budget)
    for limit in ("-s unlimited", "-s 1024"):
        command = shell(limit, program, "children", "as", str(sizes.limit))
        cases.same_as_native(checks, "ulimit %s in a shell" % limit, command, sizes.budget)
    for way in ("syscall", "device"):
        command = [cases.case_program("userfault", "-pthread"), way]
        cases.same_as_native(checks, "a userfaultfd of the program's own, by %s" % way, command, BUDGET)
    check_dumps(checks)
    check_before_quire(checks, scale, sizes)
    check_manages(checks, sizes)
