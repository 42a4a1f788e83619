"""Older kernels, from 6.8 on: what they lack is refused to quire and to programs as they refuse it, and all goes on."""

import quire
from cases import case_program, expect_same, run
from checks import expect
from runner import MIB

BUDGET = 16 * MIB
LACKS = ("6.8", "scan")
WAYS = {"from the start": "start", "woken when memory is short": "short", "woken soon": "soon"}


def check(checks, scale):
    programs = {
        "contents": [case_program("touch"), "48"],
        "forks": [case_program("forks"), "fork", "1", "20", "0"],
        "threads and calls": [case_program("waking", "-pthread"), "200"],
    }
    for lacks in LACKS:
        for way, wakes in WAYS.items():
            for name, command in programs.items():
                with checks.case("a kernel without %s: %s, %s" % ("what came after 6.8" if lacks == "6.8" else lacks, name, way)) as figures:
                    front = [case_program("older"), lacks]
                    native = run([*front, *command], timeout=60)
                    managed, report = quire.run_under(
                        command, BUDGET, [quire.ASLEEP], check=True, front=front, timeout=60, environment={"QUIRE_WAKE": wakes})
                    expect_same(native, managed)
                    moved = quire.evicted(report)
                    expect((moved > 1024 or name == "threads and calls") and report["unmanaged"] == 0, "%d pages moved out: %s" % (moved, managed.last_words()))
                    figures.append("%d pages moved out" % moved)
