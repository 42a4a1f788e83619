"""`quire run --profile`: where the time of faults goes adds up, and each count is what else the report says."""

import os
import signal
import sys

import quire
from cases import TIMEOUT, case_program
from checks import expect
from quire import PAGE
from runner import MIB, compiled, expect_success, program, verifier

BUDGET = 16 * MIB
# Messages that the handler reads at once, and threads that answer faults: the handler, and four that wait for the disk.
AT_ONCE = 8
ANSWERING = 5
# Folios that steps under way may have moved when the program ends: one of reclaim, and one of the handler between two faults.
UNDER_WAY = 2 + 32
# How much longer each fault is made, in us.
SLOWER = 2000
PINNED = 400


def profiled(command, budget=BUDGET, options=(), **how):
    """Runs a program. Returns the Result, its report, and the profile in it, which adds up."""
    result, report = quire.run_under(command, budget, ["--profile", *options], timeout=TIMEOUT, **how)
    expect(report, "no report; " + result.describe())
    profile = report.tree["profile"]
    expect(profile, "no profile")
    expect_sums(profile)
    return result, report, profile


def expect_sums(profile):
    """The phases and the rest are the whole, also in the mean, and so much was read of the disk as the calls allow."""
    faults, parts = profile["faults"], [*profile["phases"].values(), profile["other"]]
    summed = sum(part["total_ns"] for part in parts)
    expect(summed == profile["total_ns"], "the parts are %d ns, the whole %d ns" % (summed, profile["total_ns"]))
    for part in (*parts, profile):
        mean = part["total_ns"] // faults if faults else None
        expect(part["mean_ns"] == mean, "%s of %d faults" % (part, faults))
    reads, read, calls = profile["disk_reads"], profile["disk_read_bytes"], profile["calls"].get("pread", 0)
    expect(reads * PAGE <= read, "%d reads of %d bytes" % (reads, read))
    expect(reads <= calls, "%d reads of the disk, but %d calls" % (reads, calls))


def spills(rounds):
    return [compiled("spills", [program("spills.c")]), "32", str(rounds)]


def expect_calls(report, profile):
    """The calls of a run in which each folio is brought in one piece. A folio that comes or leaves takes one call, and one more
    if no store takes it, as it is put back then. Only what is refused or void may take more, or none; and at the end of the program
    threads of ours may be in the middle of steps, of which they have not told yet."""
    calls = profile["calls"]
    folios = sum(sum(report.by_order(name)) for name in ("fills", "swap_ins", "rescues", "evictions"))
    folios += report["unstorable_folios"]
    moved, slack = calls["ioctl_move"] + calls["ioctl_copy"], sum(report["refusals"].values()) + report["jobs_voided"]
    why = "%d calls for %d folios, of which %d may be otherwise" % (moved, folios, slack)
    expect(folios - slack <= moved <= folios + slack + UNDER_WAY, why)
    reads, faults, wakes = calls["read"], profile["faults"], calls.get("ioctl_wake", 0)
    expect(reads <= calls["poll"], "%d reads, but %d polls" % (reads, calls["poll"]))
    # The handler may look for messages, and find that they were read for a fork.
    expect(faults <= reads * AT_ONCE, "%d messages by %d reads" % (faults, reads))
    expect(reads <= 2 * faults, "%d reads for %d messages" % (reads, faults))
    # A copy wakes by itself.
    wakes += calls["ioctl_copy"]
    expect(wakes >= faults - report["joined"], "%d wakes and copies for %d faults" % (wakes, faults))


def check_parts(checks):
    for name, options in (("a file", []), ("none", ["--no-spill"])):
        with checks.case("a profile adds up: %s to spill to" % name) as figures:
            result, report, profile = profiled(spills(2), options=["--policy", "fixed:4K", *options])
            expect_success(result)
            expect(profile["faults"] == report["count"], "%d faults, %d profiled" % (report["count"], profile["faults"]))
            phases = {name: part["total_ns"] for name, part in profile["phases"].items()}
            for name in ("wait", "lock", "decide", "decompress", "place"):
                expect(phases[name] > 0, "nothing of %s" % name)
            wakes = profile["calls"].get("ioctl_wake", 0)
            expect(wakes > 0 or phases["wake"] == 0, "%d ns of wake, without a call" % phases["wake"])
            pages, reads = report["spill_read_pages"], profile["disk_reads"]
            expect((pages > 0) == (not options), "%d pages were read of a file" % pages)
            expect((phases["read"] > 0) == (reads > 0) == (pages > 0), "%d ns, %d reads" % (phases["read"], reads))
            expect(reads == pages, "%d reads for %d folios of a page" % (reads, pages))
            expect((phases["evict"] > 0) >= (report["evicted_in_fault_pages"] > 0), "nothing of evict")
            expect_calls(report, profile)
            figures.append("%d us a fault" % (profile["mean_ns"] // 1000))


def check_threads(checks):
    with checks.case("a profile adds up: several threads, and faults that go from one of ours to another"):
        command = [verifier(), "--bytes", str(64 * MIB), "--phase", "random", "--seconds", "2"]
        result, report, profile = profiled(command)
        expect_success(result)
        expect(profile["faults"] == report["count"], "%d faults, %d profiled" % (report["count"], profile["faults"]))
        expect(profile["disk_reads"] > 0, "nothing was read of the disk")
    with checks.case("a profile has the faults of all processes"):
        result, report, profile = profiled([case_program("workers"), "3", "20"], 64 * MIB)
        expect_success(result)
        expect(report["forked"] == 3, "%d were forked" % report["forked"])
        expect(profile["faults"] == report["count"], "%d faults, %d profiled" % (report["count"], profile["faults"]))


def check_end(checks):
    with checks.case("a profile of a program that is killed"):
        # By its own hand: quire is not to be killed.
        script = "(sleep 1; kill -9 $$) & exec " + " ".join(spills(1000))
        result, report, profile = profiled(["sh", "-c", script])
        expect(result.status == -signal.SIGKILL and not result.timed_out, result.describe())
        expect(profile["faults"] > 1000, "%d faults" % profile["faults"])
        differ = abs(profile["faults"] - report["count"])
        expect(differ <= ANSWERING, "%d faults, %d profiled" % (report["count"], profile["faults"]))


def check_slow(checks):
    with checks.case("what slows each fault down is in its time, and in no phase"):
        command = [compiled("spills", [program("spills.c")]), "8", "1"]
        slow = {"environment": {"QUIRE_INJECT": "slow-fault:%d" % SLOWER}}
        result, report, profile = profiled(command, None, ["--policy", "fixed:64K"], **slow)
        expect_success(result)
        other, whole = profile["other"]["mean_ns"], profile["mean_ns"]
        expect(profile["faults"] >= 8 * MIB // (64 << 10), "%d faults" % profile["faults"])
        expect(other >= SLOWER * 1000, "the rest is %d ns" % other)
        expect(whole - other < SLOWER * 1000, "%d ns of %d are in phases" % (whole - other, whole))
        expect(report["p50_ns"] >= SLOWER * 1000, "half of the faults took %d ns" % report["p50_ns"])


def check_migrations(checks):
    with checks.case("changes of the processor are counted") as figures:
        processors = sorted(os.sched_getaffinity(0))[:2]
        if len(processors) < 2:
            figures.append("skipped: one processor")
            return
        script = "import os, time\nfor i in range(%d): os.sched_setaffinity(0, {%d + i %% 2 * %d})\ntime.sleep(0.3)"
        script %= (PINNED, processors[0], processors[1] - processors[0])
        result, _, profile = profiled([sys.executable, "-c", script], None)
        expect_success(result)
        moved = profile["migrations"]
        if moved["program"] is None:
            figures.append("skipped: this kernel does not tell")
            return
        # The first may find it there, and the scheduler moves it now and then before and after.
        expect(PINNED - 1 <= moved["program"] <= PINNED + 100, "%s, of which %d are known" % (moved, PINNED))


def check_none(checks):
    with checks.case("without --profile there is none"):
        result, report = quire.run_under(spills(1), BUDGET, timeout=TIMEOUT)
        expect_success(result)
        expect(report.tree["profile"] is None, "there is one")


def check(checks, scale):
    check_none(checks)
    check_parts(checks)
    check_threads(checks)
    check_end(checks)
    check_slow(checks)
    check_migrations(checks)
