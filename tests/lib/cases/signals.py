"""Calls amid signals: masks, pending signals, actions and alternate stacks are after each call what they were before; in a
storm of timers, alarms and queued signals none is lost and no call goes wrong; handlers of SIGSEGV that mend what was
touched are told the truth; children inherit what they inherit natively."""

import glob

from cases.three_ways import ballasted, three_ways
from runner import program

PARTS = ("masks", "storm", "repair", "children")


def check(checks, scale):
    sources = glob.glob(program("cases/signals/*.c"))
    command = ballasted("signals", program("cases/signals/main.c"), *sorted(set(sources) - {program("cases/signals/main.c")}))
    for part in PARTS:
        for _ in range(scale.rounds if part == "storm" else 1):
            three_ways(checks, "signals, " + part, [command, part])
