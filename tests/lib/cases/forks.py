"""Children with a copy of the address space, made in every way there is: each sees all of its parent's contents, and
goes on using memory."""

import os

import quire
from checks import expect
from runner import MIB, scratch

from cases import case_program, expect_same, run

BUDGET = 32 * MIB
CONTENTS = 64

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
    for kind in (*KNOWN, *UNKNOWN, *FAMILIES, *STACKS):
        compare(checks, kind, [forks, kind, "2", str(CONTENTS), "0"])
    rounds = 100 if scale.full else 15
    for kind in RACES:
        compare(checks, kind + " beside threads", [forks, kind, str(rounds), "48", "3"], timeout=300)
    rights = case_program("forks_rights")
    compare(checks, "fork in a program that filters its calls", [rights, "filter"])
    if os.getuid() == 0:
        compare(checks, "fork in a program that became another user", [rights, "user"])
        with scratch() as directory:
            compare(checks, "fork in a program with an empty root", [rights, "root", directory])


def compare(checks, name, command, timeout=60):
    """One check: the same under Quire as natively, and something was evicted."""
    with checks.case("a child by " + name) as figures:
        native = run(command, timeout=timeout)
        managed, report = quire.run_under(command, BUDGET, ["-q"], timeout=timeout)
        expect_same(native, managed)
        expect(report is not None and report["evicted_behind_pages"] + report["evicted_in_fault_pages"] > 0, "no pressure")
        figures.append("natively %.1f s, under Quire %.1f s" % (native.seconds, managed.seconds))
