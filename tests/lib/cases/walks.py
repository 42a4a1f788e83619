"""The differential of sequences of calls: random ones, on the kernel's memory and on ours side by side. After each call the
same result, and each page is touched: the same contents, or the same signal, code and address. What differs is shortened,
and printed with its seed."""

import os
import time

from cases.differential import compare
from runner import MIB

# Sequences, with as many calls each. In full their seeds are new each day.
WALKS = 30
WALKS_IN_FULL = 3000
STEPS = 40

# The first seed, in the small form the same every day: what it finds should be the change's fault.
FIRST = 1

# Of other memory, in MiB, that is pressed with before some of them.
PRESSURE = 24
BUDGET = 16 * MIB


def walks(checks, name, way, count, pressure=0, first=FIRST, **how):
    """`QUIRE_WALK=SEED` makes the sequence with that seed again, and those after it."""
    seed = int(os.environ.get("QUIRE_WALK", first))
    command = ["walk", way, str(seed), str(count), str(STEPS), str(pressure)]
    compare(checks, "%s, from seed %d" % (name, seed), command, 90 + count, **how)


def check(checks, scale):
    count = WALKS_IN_FULL if scale.full else WALKS
    how = {"first": int(time.time() // 86400) * 1000000 if scale.full else FIRST}
    walks(checks, "sequences of random calls", "libc", count, **how)
    walks(checks, "sequences of random calls by number", "number", count, **how)
    walks(checks, "sequences of random calls under pressure", "libc", count // 3, PRESSURE, budget=BUDGET, **how)
