"""The binary under test: how it is called, and what its JSON report says."""

import json
import os

from checks import Failed, expect
from runner import MIB, REPOSITORY, run, scratch

# What the promise allows beside the budget, for the kernel's share and for what Quire does not manage.
CGROUP_MARGIN = 48 * MIB
RESIDENT_MARGIN = 24 * MIB
REPORT_MARGIN = 4 * MIB

PAGE = 4096
# Among the options of a run: the program sleeps until memory is short, as by default.
ASLEEP = "asleep"
# It is managed from its start, whatever QUIRE_WAKE says: for what is about that moment, or about who joins at all.
AWAKE = "--awake"
# Of a small program, beside the memory that it is told to use: what libc and its loader have from the arena.
OWN = 2 * MIB

# Statuses for errors of the command itself, as with `env` and `timeout`.
COMMAND_ERRORS = range(125, 128)

ORDERS = ("4K", "8K", "16K", "32K", "64K", "128K", "256K", "512K", "1M", "2M")


def binary():
    """$QUIRE, or what `cargo build --release` made."""
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(REPOSITORY, "target"))
    path = os.environ.get("QUIRE", os.path.join(target, "release", "quire"))
    expect(os.path.exists(path), "no %s: run cargo build --release" % path)
    return path


def library(directory):
    """The preload library that the binary carries, as a file in `directory`."""
    path = os.path.join(directory, "libquire_preload.so")
    # $LIB, which only glibc's loader knows, leads to / first.
    done = run([binary(), "run", "-q", "--", "sh", "-c", 'cp "${LD_PRELOAD##*/..}" "$0"', path], timeout=60)
    expect(done.status == 0, done.describe())
    return path


def cgroup_limit(budget):
    """The limit inside which a program with that budget must finish."""
    return budget * 11 // 10 + CGROUP_MARGIN


def sleeps():
    """Whether programs sleep at first, by QUIRE_WAKE."""
    return os.environ.get("QUIRE_WAKE", "start") != "start"


def command_line(program, budget=None, options=()):
    """`quire run` in front of a program; `budget` in bytes."""
    size = ["-m", "%dK" % (budget // 1024)] if budget else []
    # Most tests are about managed memory: without QUIRE_WAKE of the caller's it is managed from the start.
    awake = AWAKE in options or "QUIRE_WAKE" not in os.environ and ASLEEP not in options
    options = [AWAKE] * awake + [option for option in options if option not in (ASLEEP, AWAKE)]
    return [binary(), "run", *size, *options, "--", *program]


def run_under(program, budget=None, options=(), check=False, front=(), **how):
    """Runs a program under Quire. Returns the Result, and the Report or None where none was written. With `check`, Quire walks
    its tables now and then, and at the program's end, and stops where they do not fit each other. `front` starts it. What the report counts
    is possible."""
    if check:
        how["environment"] = {"QUIRE_CHECK": "1", **how.get("environment", {})}
    with scratch() as directory:
        path = os.path.join(directory, "report.json")
        result = run([*front, *command_line(program, budget, [*options, "--json", "-o", path])], **how)
        report = Report(path) if os.path.exists(path) and os.path.getsize(path) else None
        if report:
            expect_flow(report, recorded="--record" in options)
        return result, report


class Report:
    """Looks fields up by name, wherever in the report they stand."""

    def __init__(self, path):
        with open(path) as file:
            self.tree = json.load(file)

    def __getitem__(self, name):
        found = list(_fields(self.tree, name))
        if not found:
            raise Failed("the report has no field %s" % name)
        return found[0]

    def by_order(self, name):
        """A count for each of the ten orders; the report may give a list, or an object with sizes for keys."""
        value = self[name]
        if isinstance(value, dict):
            return [value.get(size, 0) for size in ORDERS]
        return list(value)


def _fields(tree, name):
    """All values under the key `name`, the outermost first."""
    levels = [tree]
    while levels:
        branch = levels.pop(0)
        if isinstance(branch, dict):
            if name in branch:
                yield branch[name]
            levels.extend(branch.values())


def evicted(report):
    """All pages that were moved out."""
    return report["evicted_behind_pages"] + report["evicted_in_fault_pages"]


def pages_of(report, name):
    """What a count by order comes to in pages."""
    return sum(count << order for order, count in enumerate(report.by_order(name)))


def expect_flow(report, recorded=False):
    """Only what had come into memory left it, and only what had left came back: the upper bound of each of these counts.

    A forked child has what its parent had moved out, and moves nothing out itself. A move that is refused, or whose job is void,
    may have been counted though the page is where it was; so may what no store takes, and what pages did that nobody knows of.
    While a trace is recorded, pages leave for a moment to be seen coming back, which are rescues and no evictions.
    """
    zeroes, stored, rescued, out = (pages_of(report, name) for name in ("fills", "swap_ins", "rescues", "evictions"))
    troubles = report["jobs_voided"] + report["unstorable_folios"] + report["foreign_pages"] + sum(report["refusals"].values())
    slack = troubles << (len(ORDERS) - 1)
    came = zeroes + stored + rescued + report["adopted_pages"]
    expect(out <= came + slack, "%d pages left, %d came" % (out, came))
    # What is found to be zeroes comes back from nowhere, unless it is rescued.
    empty = max(report["zero_pages"] - rescued, 0)
    back, most = stored + rescued * (not recorded), (out - empty) * (1 + report["forked"]) + slack
    expect(back <= most, "%d pages came back, %d can have been out" % (back, most))
    spilled = report["spilled_pages"]
    expect(spilled <= report["stored_pages"] + slack, "%d pages were spilled, %d stored" % (spilled, report["stored_pages"]))
    expect(report["stored_pages"] <= out + slack, "%d pages were stored, %d left" % (report["stored_pages"], out))


def expect_filled(report, least, most):
    """What was filled with zeroes, or taken over when the program woke, is its memory, `least` to `most` bytes of it, and once more
    each page that left as zeroes: those may be filled anew."""
    filled, taken, again = (pages * PAGE for pages in (pages_of(report, "fills"), report["adopted_pages"], report["zero_pages"]))
    said = "%d KiB filled, %d taken over, %d left as zeroes" % (filled >> 10, taken >> 10, again >> 10)
    expect(least <= filled + taken <= most + OWN + again, said)


def managed_share(report):
    """The managed part of resident anonymous memory, at its peak."""
    managed, unmanaged = report["peak_managed_bytes"], report["peak_unmanaged_bytes"]
    return managed / max(1, managed + unmanaged)


def share_off_fault_path(report):
    """The part of evictions that no fault had to wait for."""
    behind, in_fault = report["evicted_behind_pages"], report["evicted_in_fault_pages"]
    expect(behind + in_fault > 0, "nothing was evicted")
    return behind / (behind + in_fault)
