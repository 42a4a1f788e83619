"""The small programs of these cases, each natively, under Quire, and under Quire with other memory pressing all the while:
the same output and the same end, and under pressure memory really left. Those of the preload library: preload.py."""

import glob
import os

import quire
from cases import case_program, expect_same
from checks import expect
from runner import MIB, compiled, program, run

BUDGET = 16 * MIB
# Of the thread that presses, in MiB: tests/programs/ballast.c.
BALLAST = "24"
TIMEOUT = 90

# Of each program the arguments that it is run with.
CASES = {
    "forks": [(kind, "1", "4", "0") for kind in ("fork", "clone", "syscall-clone-stack", "clone3", "assembly")],
    "places": [("hints",)],
    "segv": [()],
    "spare": [()],
    "workers": [("2", "4")],
}
# Programs that have to be run in other ways.
ELSEWHERE = {
    "calls": "calls.py, under pressure and without a budget",
    "container": "recipes.py: the filter of a container",
    "coredump": "limits.py: it dies, and its dump is looked at",
    "deaths": "deaths.py, under pressure",
    "deaths_rt": "deaths.py: real-time threads, against the clock",
    "elsewhere": "outside.py: memory that is not managed",
    "ends": "outside.py: its report is looked at",
    "execs": "outside.py: it starts programs outside",
    "filtered": "outside.py: behind a filter",
    "filters": "restricted.py: in four ways",
    "older": "kernels.py: in front of others",
    "leaves": "restricted.py: in four ways",
    "forks_rights": "forks.py, under pressure",
    "heapname": "outside.py: it says whose malloc it has",
    "restrained": "sleep.py: it sleeps when it restrains itself",
    "touch": "sleep.py: as fast as it can",
    "waking": "sleep.py: woken in the middle",
    "hooks": "hooks.py: with its library, under pressure",
    "hooks_deep": "hooks.py: that library",
    "hello": "outside.py: for other libcs",
    "holders": "holders.py, under pressure",
    "holders_net": "holders.py, under pressure",
    "holders_ring": "holders.py, under pressure",
    "idle": "idle.py: two processes, by what comes back",
    "overcommit": "overcommit.py: in each mode of the kernel's",
    "leaks": "leaks.py, under pressure and without a budget",
    "marks": "calls.py, under pressure and without a budget",
    "processors": "processors.py, under pressure",
    "race": "race.py, in two budgets and without",
    "limits": "limits.py, with a budget and without",
    "userfault": "limits.py, under pressure",
    "vectors": "differential.py, under pressure and without a budget",
}


def ballasted(name, path, *more):
    """A program with the ballast in it."""
    headers = [program("cases/case.h"), *glob.glob(os.path.join(os.path.dirname(path), "*.h"))]
    sources = [word for word in more if word.endswith(".c")]
    flags = ["-fno-builtin", *(word for word in more if not word.endswith(".c"))]
    return compiled("ballasted-" + name, [path, *sources, program("ballast.c"), *headers], flags)


def three_ways(checks, name, command):
    """One check. Status 0 is not asked for: some programs are to end otherwise."""
    with checks.case("three ways: " + name) as figures:
        native = run(command, timeout=TIMEOUT)
        expect(not native.timed_out and native.status not in (98, 99), "natively: " + native.describe())
        free, _ = quire.run_under(command, timeout=TIMEOUT)
        expect_same(native, free)
        pressed, report = quire.run_under(command, BUDGET, timeout=TIMEOUT, environment={"BALLAST": BALLAST})
        expect_same(native, pressed)
        expect(report is not None, "no report")
        out, back = sum(report.by_order("evictions")), sum(report.by_order("swap_ins"))
        expect(out > 0 and back > 0, "%d folios were evicted, %d read back" % (out, back))
        seconds = (native.seconds, free.seconds, pressed.seconds)
        figures.append("%.1f, %.1f, %.1f s; %d folios out, %d back" % (*seconds, out, back))


def all_are_run(checks):
    """No program is forgotten, and no entry is left over."""
    with checks.case("three ways: each program is run, or said to be run elsewhere"):
        names = {os.path.basename(path)[:-2] for path in glob.glob(program("cases/*.c"))}
        listed = {*CASES, *ELSEWHERE}
        expect(names == listed, "not listed: %s; not there: %s" % (names - listed, listed - names))


def check(checks, scale):
    all_are_run(checks)
    for name, runs in CASES.items():
        for words in runs:
            path = program("cases/%s.c" % name)
            three_ways(checks, " ".join([name, *words]), [ballasted(name, path), *words])
