"""Programs that restrict their own system calls, and programs whose last thread leaves by exit(2): as natively, managed from their
start on, woken in the middle, and asleep to the end."""

import quire
from cases import case_program, expect_same, run
from checks import expect
from runner import MIB

# MiB of contents, and budgets in which they do not fit and do.
CONTENTS, SHORT, PLENTY = "24", 16 * MIB, 256 * MIB
FILTERS = ("kill", "refuse", "control", "all", "all-of-two", "twice")
LEAVES = ("first", "second", "ended", "assembly", "strict", "child")
WAYS = {
    "managed from the start": ((), SHORT, {}),
    "woken when memory is short": ((quire.ASLEEP,), SHORT, {}),
    "woken soon": ((quire.ASLEEP,), SHORT, {"QUIRE_WAKE": "soon"}),
    "asleep": ((quire.ASLEEP,), PLENTY, {}),
}
# Of the other filters only the first and the third way are tried.
IN_ALL_WAYS = {"kill", "all", "all-of-two"}
# A filter for all threads, where the program has several, is for Quire's too: none of them may do then what waking takes.
STAYS = {"all-of-two"}


def compare(checks, program, what):
    command = [case_program(program, "-pthread"), CONTENTS, what]
    native = run(command, timeout=60)
    ways = list(WAYS.items())
    if program == "filters" and what not in IN_ALL_WAYS:
        ways = ways[::2]
    for way, (options, budget, environment) in ways:
        with checks.case("%s: %s, %s" % (program, what, way)) as figures:
            managed, report = quire.run_under(command, budget, options, timeout=60, environment=environment)
            expect_same(native, managed)
            moved = quire.evicted(report)
            if program == "filters" and budget == SHORT and not (options and what in STAYS):
                expect(moved > 1024, "%d pages were moved out" % moved)
            figures.append("natively %.1f s, under Quire %.1f s; %d pages moved out" % (native.seconds, managed.seconds, moved))


def check(checks, scale):
    for what in FILTERS:
        compare(checks, "filters", what)
    for what in LEAVES:
        compare(checks, "leaves", what)
