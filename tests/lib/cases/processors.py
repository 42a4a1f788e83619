"""Quire keeps a thread that faults alone on one processor; no program may notice by what it asks, sets, or makes."""

import os
import re

from cases import both, case_program, expect_same
from checks import expect
from runner import MIB

BUDGET = 32 * MIB
# A program that looks a few times only may be looked at while it is not kept.
TRIES = 3


def kept(result):
    """How often the program found itself kept, by the parts of it."""
    return {name: int(times) for name, times in re.findall(r"^([\w ]+): kept in (\d+) of", result.stderr, re.M)}


def compare(checks, policy):
    program = case_program("processors", "-pthread")
    for what in ("all", "exec"):
        with checks.case("processors: %s, %s" % (what, policy)) as figures:
            for _ in range(TRIES):
                native, managed, _ = both([program, what], BUDGET, ["--policy", policy])
                expect_same(native, managed)
                expect(sum(kept(native).values()) == 0, "natively it is kept: %s" % kept(native))
                times = kept(managed)
                if sum(times.values()) > 0:
                    break
            figures.append("kept: %s" % times)
            if len(os.sched_getaffinity(0)) > 1:
                # Otherwise nothing was shown. Above all after calls that have failed.
                expect(sum(times.values()) > 0 and times.get("at last") != 0, "not kept: %s" % times)


def check(checks, scale):
    for policy in ("adaptive", "fixed:4K"):
        compare(checks, policy)
