"""Children with a copy of the address space, made in every way there is: each sees all of its parent's contents, and
goes on using memory."""

import os

import quire
from checks import expect
from runner import MIB, scratch

from cases import case_program, expect_same, run

# MiB of the parent's contents, which do not fit into the budget. The small form has the least budget that there is.
CONTENTS, BUDGET = 24, 16 * MIB
CONTENTS_IN_FULL, BUDGET_IN_FULL = 64, 32 * MIB
# Beside threads, whose own memory is 40 MiB and more whatever the size.
RACE = {"contents": 24, "budget": 24 * MIB, "rounds": 8}
RACE_IN_FULL = {"contents": 48, "budget": 32 * MIB, "rounds": 100}

# Announced to the library, by name or by number.
KNOWN = ("fork", "_Fork", "clone", "__clone", "syscall-clone", "syscall-clone-stack", "clone3", "clone3-stack")
# Known to the kernel only, or not to be waited for.
UNKNOWN = ("assembly", "assembly-stack", "second-libc", "clone-vfork")
FAMILIES = (
    "grandchild-fork-assembly",
    "grandchild-assembly-assembly",
    "grandchild-assembly-fork",
    "assembly-exec",
    "daemon",
)
# KiB, over a guard or over nothing.
STACKS = ("clone:8", "clone:16", "clone:8:hole", "clone:16:hole", "syscall-clone-stack:8", "assembly-stack:8")
RACES = ("fork", "assembly", "second-libc", "both")


def check(checks, scale):
    forks = case_program("forks")
    contents, budget = (CONTENTS_IN_FULL, BUDGET_IN_FULL) if scale.full else (CONTENTS, BUDGET)
    for kind in (*KNOWN, *UNKNOWN, *FAMILIES, *STACKS):
        compare(checks, kind, [forks, kind, "2", str(contents), "0"], budget)
    race = RACE_IN_FULL if scale.full else RACE
    for kind in RACES:
        command = [forks, kind, str(race["rounds"]), str(race["contents"]), "3"]
        compare(checks, kind + " beside threads", command, race["budget"], timeout=300)
    rights = [case_program("forks_rights"), str(contents)]
    compare(checks, "fork in a program that filters its calls", [*rights, "filter"], budget)
    compare(checks, "fork in a program with few descriptors", [*rights, "descriptors"], budget)
    if os.getuid() == 0:
        compare(checks, "fork in a program that became another user", [*rights, "user"], budget)
        with scratch() as directory:
            compare(checks, "fork in a program with an empty root", [*rights, "root", directory], budget)
        unseen(checks, forks, str(contents), budget)


def unseen(checks, forks, contents, budget):
    """Without CAP_SYS_PTRACE the kernel tells of no fork: children that are announced are whole, and no other reads zeroes."""
    front = ["setpriv", "--bounding-set", "-sys_ptrace"]
    for kind in ("fork", "clone:8", "syscall-clone-stack", "grandchild-fork-fork"):
        compare(checks, kind + " without CAP_SYS_PTRACE", [forks, kind, "3", contents, "0"], budget, front=front)
    with checks.case("a child by assembly without CAP_SYS_PTRACE ends where it would read zeroes"):
        result = run([*front, *quire.command_line([forks, "assembly", "2", contents, "0"], budget, ["-q"])])
        expect(result.text.count("child made: status b") == 2, result.text[:200] + result.describe())
        expect("assembly: 0 children" in result.text and "parent: 0 words wrong" in result.text, result.text[:200])


def compare(checks, name, command, budget, timeout=60, front=()):
    """One check: the same under Quire as natively, and something was evicted. `front` comes before both commands."""
    with checks.case("a child by " + name) as figures, scratch() as directory:
        native = run([*front, *command], timeout=timeout)
        path = os.path.join(directory, "report.json")
        options = ["-q", "--json", "-o", path]
        managed = run([*front, *quire.command_line(command, budget, options)], timeout=timeout)
        report = quire.Report(path) if os.path.exists(path) and os.path.getsize(path) else None
        expect_same(native, managed)
        expect(report is not None and quire.evicted(report) > 0, "no pressure")
        quire.expect_flow(report)
        figures.append("natively %.1f s, under Quire %.1f s" % (native.seconds, managed.seconds))
