"""The binary under test: how it is called, and what its JSON report says."""

import json
import os

from checks import Failed, expect
from runner import MIB, REPOSITORY, run, scratch

# What the promise allows beside the budget, for the kernel's share and for what Quire does not manage.
CGROUP_MARGIN = 48 * MIB
RESIDENT_MARGIN = 24 * MIB
REPORT_MARGIN = 4 * MIB

# Statuses for errors of the command itself, as with `env` and `timeout`.
COMMAND_ERRORS = range(125, 128)

ORDERS = ("4K", "8K", "16K", "32K", "64K", "128K", "256K", "512K", "1M", "2M")


def binary():
    """$QUIRE, or what `cargo build --release` made."""
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(REPOSITORY, "target"))
    path = os.environ.get("QUIRE", os.path.join(target, "release", "quire"))
    expect(os.path.exists(path), "no %s: run cargo build --release" % path)
    return path


def cgroup_limit(budget):
    """The limit inside which a program with that budget must finish."""
    return budget * 11 // 10 + CGROUP_MARGIN


def command_line(program, budget=None, options=()):
    """`quire run` in front of a program; `budget` in bytes."""
    size = ["-m", "%dK" % (budget // 1024)] if budget else []
    return [binary(), "run", *size, *options, "--", *program]


def run_under(program, budget=None, options=(), check=False, **how):
    """Runs a program under Quire. Returns the Result, and the Report or None where none was written. With `check`, Quire walks
    its tables now and then, and at the program's end, and stops where they do not fit each other."""
    if check:
        how["environment"] = {"QUIRE_CHECK": "1", **how.get("environment", {})}
    with scratch() as directory:
        path = os.path.join(directory, "report.json")
        result = run(command_line(program, budget, [*options, "--report", "json", "-o", path]), **how)
        return result, Report(path) if os.path.exists(path) and os.path.getsize(path) else None


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


def managed_share(report):
    """The managed part of resident anonymous memory, at its peak."""
    managed, unmanaged = report["peak_managed_bytes"], report["peak_unmanaged_bytes"]
    return managed / max(1, managed + unmanaged)


def share_off_fault_path(report):
    """The part of evictions that no fault had to wait for."""
    behind, in_fault = report["evicted_behind_pages"], report["evicted_in_fault_pages"]
    expect(behind + in_fault > 0, "nothing was evicted")
    return behind / (behind + in_fault)
