"""Threads that die, and threads that nobody may starve: what the kernel touches at a thread's end, and real-time threads."""

from cases import both, case_program, expect_same, same_as_native
from checks import expect
from runner import MIB

MODES = (
    "robust", "robust waiters", "robust exit", "robust pi", "robust pi,waiters", "wait", "wait pi",
    "futex", "own-threads", "own-list", "own-owner", "own-stacks", "moves",
)

# The program presses with 40 MiB.
BUDGET = 16 * MIB

# The kernel lets ordinary threads run for a moment in each second: that must not be what helps.
RESCUED_AFTER = 0.9
# Where ordinary threads keep the processors busy too, it may be: in one run of 25, so not in three in a row.
TRIES = 3


def check(checks, scale):
    program = case_program("deaths")
    for mode in MODES:
        same_as_native(checks, "deaths " + mode, [program, *mode.split()], BUDGET)
    many(checks, program)
    for policy in ("rr", "fifo"):
        for what in ("fresh", "read", "calls"):
            real_time(checks, what, policy)


def many(checks, program):
    """Pages that stay are not tried again and again: what else there is goes out and in as ever."""
    with checks.case("deaths many kept pages") as figures:
        native, managed, report = both([program, "many"], BUDGET)
        expect_same(native, managed)
        expect(managed.seconds < 45, "it took %.1f s" % managed.seconds)
        figures.append("%.1f s" % managed.seconds)


def real_time(checks, what, policy):
    """Who is as urgent as those that keep every processor busy, or more, has its memory in natively comparable time."""
    with checks.case("deaths real-time %s %s" % (what, policy)) as figures:
        for _ in range(TRIES):
            # A check of the tables holds them for long, on a thread that is no real-time one.
            native, managed, _ = both([case_program("deaths_rt"), what, policy], 32 * MIB, ("-q",), check=False)
            expect_same(native, managed)
            if not native.stderr.strip():
                figures.append("no right to real-time threads")
                return
            seconds = [float(result.stderr.split()[-1]) for result in (native, managed)]
            figures.append("natively %.3f s, under Quire %.3f s" % tuple(seconds))
            if seconds[1] < RESCUED_AFTER:
                return
        expect(False, "it waited until ordinary threads were let run")
