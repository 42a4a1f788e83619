"""Six threads that map, map over, move, protect, discard and unmap beside each other lose nothing and are refused nothing."""

from cases import case_program, same_as_native
from runner import MIB

SECONDS = 5
SECONDS_IN_FULL = 600


def check(checks, scale):
    seconds = SECONDS_IN_FULL if scale.full else SECONDS
    program = [case_program("race", "-pthread"), str(seconds)]
    # All of it fits into the first budget and about half into the second.
    for budget in (48 * MIB, 16 * MIB, None):
        size = "%d MiB" % (budget // MIB) if budget else "no budget"
        name = "%d s of calls by six threads, %s" % (seconds, size)
        same_as_native(checks, name, program, budget, timeout=seconds + 60)
