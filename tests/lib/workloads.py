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
    return Workload("sort", ["sort", "-S", "%dM" % scale.mb(600), lines], scale.mib(128))


def sort_of_long_lines(scale):
    """For the promise: lines of some 350 characters. A merge looks at a page of its own for most lines, and of short ones
    there are so many that with a quarter of the memory it reads the disk for a good part of an hour."""
    megabytes, buffer, budget = (300, 600, 128) if scale.full else (130, 220, 84)
    lines = inputs.random_lines(megabytes, digits=600)
    return Workload("sort", ["sort", "-S", "%dM" % buffer, lines], budget * MIB)


def sqlite(scale, megabytes=400, budget=128):
    script = inputs.sqlite_script(scale.mb(megabytes))
    return Workload("sqlite", ["sqlite3", ":memory:"], scale.mib(budget), stdin=script)


def sqlite_for_the_promise(scale):
    """In the small form not much more than the limit, of which 48 MiB are the same in each form: with a quarter of the data
    and of the budget most of the time goes into reading the disk again and again."""
    return sqlite(scale) if scale.full else sqlite(scale, 320, 112)


def all_three(scale):
    return [python(scale), sort(scale), sqlite(scale)]
