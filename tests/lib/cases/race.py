"""Six threads that map, map over, move, protect, discard and unmap beside each other lose nothing and are refused nothing."""

import quire
from cases import case_program, expect_same
from checks import need
from runner import MIB, expect_success, run

SECONDS = 4
SECONDS_IN_FULL = 600


def check(checks, scale):
    seconds = SECONDS_IN_FULL if scale.full else SECONDS
    program, timeout = [case_program("race", "-pthread"), str(seconds)], seconds + 60
    native = None
    with checks.case("%d s of calls by six threads, natively" % seconds):
        result = run(program, timeout=timeout)
        expect_success(result)
        native = result
    # All of it fits into the first budget and about half into the second.
    for budget in (48 * MIB, 16 * MIB, None):
        size = "%d MiB" % (budget // MIB) if budget else "no budget"
        with checks.case("%d s of calls by six threads, %s" % (seconds, size)):
            need(native)
            expect_same(native, quire.run_under(program, budget, check=True, timeout=timeout)[0])
