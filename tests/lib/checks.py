"""One line per check, `ok` or `FAIL`, and the count at the end."""

import contextlib
import os
import sys
import time


class Failed(Exception):
    """A check that did not hold; its text is what the reader of the line needs."""


def expect(holds, why):
    if not holds:
        raise Failed(why)


def is_wanted(name):
    """Whether a group of checks is among those that `ONLY` names, with commas; without it all are."""
    only = [wanted for wanted in os.environ.get("ONLY", "").split(",") if wanted]
    return not only or name in only


def need(*earlier):
    """For a check that builds on the results of earlier ones, which are None where they failed."""
    expect(all(result is not None for result in earlier), "not possible after the failure above")


class Checks:
    """Counts checks. `prefix` names the script in each line; `first_failure_ends` the script."""

    def __init__(self, prefix, first_failure_ends=False):
        # Of a run in which programs sleep, too.
        self.prefix = "%s QUIRE_WAKE=%s" % (prefix, os.environ["QUIRE_WAKE"]) if "QUIRE_WAKE" in os.environ else prefix
        self.first_failure_ends = first_failure_ends and "QUIRE_ALL" not in os.environ
        self.passed = 0
        self.failed = 0

    @contextlib.contextmanager
    def case(self, name):
        """Runs the body as the check `name`. It may append to the list it gets: figures that belong on the line."""
        start = time.monotonic()
        figures = []
        try:
            yield figures
            self._line("ok", name, start, ", ".join(figures))
            self.passed += 1
        except Exception as problem:  # A broken check is a failed check: the others still run.
            kind = "" if isinstance(problem, Failed) else type(problem).__name__ + ": "
            self._line("FAIL", name, start, ", ".join([kind + str(problem)] + figures))
            self.failed += 1
            if self.first_failure_ends:
                self.finish()

    def _line(self, verdict, name, start, rest):
        seconds = time.monotonic() - start
        end = ": " + " ".join(rest.split()) if rest else ""
        print("%-4s %s %s (%.1f s)%s" % (verdict, self.prefix, name, seconds, end), flush=True)

    def finish(self):
        """Prints the count and ends the script."""
        print("%d passed, %d failed" % (self.passed, self.failed), flush=True)
        sys.exit(1 if self.failed else 0)


def mib(size):
    """A size in bytes as readable text."""
    return "%.1f MiB" % (size / (1 << 20))
