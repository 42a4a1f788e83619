"""A parent that waits gives its memory to a child that works: the child fits into the budget, and reads nothing back once it has it."""

import cases
from checks import expect
import quire
from runner import MIB

BUDGET = 64 * MIB
# What the child touches in one of its 120 rounds, in pages: it has to have its memory after half of them. Checks of
# all tables would take so much of the time that it takes longer.
CHILD = 40 * MIB // quire.PAGE
MOST_ROUNDS = 60


def check(checks, scale):
    counts = {}
    for who in ("alone", "idle"):
        with checks.case("a child beside a parent: " + who) as figures:
            native, managed, report = cases.both([cases.case_program("idle"), who], BUDGET, check=False)
            cases.expect_same(native, managed)
            counts[who] = quire.pages_of(report, "swap_ins")
            figures.append("%d pages came back, %.1f s, natively %.1f s" % (counts[who], managed.seconds, native.seconds))
    with checks.case("a parent that waits gives its memory to the child"):
        # What is reclaimed while the grant grows is little.
        expect(counts["alone"] <= CHILD // 4, "the child alone fits, and %d pages came back" % counts["alone"])
        # The parent's own come back when the child has ended.
        own = 48 * MIB // quire.PAGE
        most = own + MOST_ROUNDS * CHILD
        expect(counts["idle"] <= most, "%d pages came back, more than %d" % (counts["idle"], most))
