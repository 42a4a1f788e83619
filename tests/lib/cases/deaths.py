"""Threads that die or that nobody may starve: what the kernel touches at a thread's end, and real-time threads."""

from cases import case_program, expect_same, same_as_native, both
from checks import expect
from runner import MIB

MODES = (
    "robust", "robust waiters", "robust exit", "robust pi", "robust pi,waiters",
    "wait", "wait pi",
    "futex", "own-threads", "own-list", "own-owner", "own-stacks", "moves",
)


def check(checks, scale):
    program = case_program("deaths")
    for mode in MODES:
        same_as_native(checks, "deaths " + mode, [program, *mode.split()], 32 * MIB)
    many(checks, program)


def many(checks, program):
    """Pages that stay are not tried again and again: what else there is goes out and in as ever."""
    with checks.case("deaths many kept pages") as figures:
        native, managed, report = both([program, "many"], 16 * MIB)
        expect_same(native, managed)
        expect(managed.seconds < 20, "it took %.1f s" % managed.seconds)
        figures.append("%.1f s" % managed.seconds)
