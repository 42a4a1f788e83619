"""The real programs that several scripts run: the Python job, sort and sqlite."""

import inputs
from runner import MIB
from scale import system_python


class Workload:
    """A program with its input. `budget` in bytes is what the promise gives it."""

    def __init__(self, name, command, budget, stdin=None, any_order=False):
        self.name = name
        self.command = command
        self.budget = budget
        self.stdin = stdin
        # The lines of its output may come in any order.
        self.any_order = any_order

    def answer(self, result):
        """What must be the same in every run."""
        return sorted(result.text.splitlines()) if self.any_order else result.digest


def python(scale):
    return Workload("python", [system_python(), *scale.job(600)], scale.mib(200))


def sort(scale):
    lines = inputs.random_lines(scale.mb(300))
    # At the budget of the full size in proportion, a quarter of the data would take minutes: random lines hardly
    # compress, and the merge goes back and forth between memory and disk.
    budget = scale.mib(128) if scale.full else 84 * MIB
    return Workload("sort", ["sort", "-S", "%dM" % scale.mb(600), lines], budget)


def sqlite(scale):
    script = inputs.sqlite_script(scale.mb(400))
    return Workload("sqlite", ["sqlite3", ":memory:"], scale.mib(128), stdin=script)


def all_three(scale):
    return [python(scale), sort(scale), sqlite(scale)]
