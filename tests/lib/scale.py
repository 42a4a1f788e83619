"""The sizes of a run: `--small` for CI, `--full` for the promise, `--soak` for a long night."""

import argparse
import os
import sys

from cgroup import remove_leftovers
from runner import MIB, fail_on_signals, program, remove_old_scratch

SMALL_DIVISOR = 4


def system_python():
    """The system's python3, not one that a version manager put in front of it."""
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else os.path.realpath(sys.executable)


class Scale:
    """What the command line asked for."""

    def __init__(self, options):
        self.full = options.full or options.soak
        self.soak = options.soak
        self.native = options.native
        self.divisor = 1 if self.full else SMALL_DIVISOR
        self.rounds = 3 if self.full else 1
        # Seconds after which a run counts as hung.
        self.timeout = 900 if self.full else 400

    def mb(self, megabytes):
        """That many megabytes, or the small part of it."""
        return megabytes // self.divisor

    def mib(self, mebibytes):
        """A budget in bytes, or the small part of it."""
        return mebibytes * MIB // self.divisor

    def job(self, megabytes, seed=1):
        """The arguments of the Python job."""
        return [program("job.py"), "--mb", str(self.mb(megabytes)), "--seed", str(seed)]


def parse(description):
    """The scale from the command line of a script; also prepares the script to clean up after itself."""
    parser = argparse.ArgumentParser(description=description)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="a quarter of the data, once (the default)")
    size.add_argument("--full", action="store_true", help="all of the data, several rounds")
    size.add_argument("--soak", action="store_true", help="as full, and a minute for each cell of the verifier")
    parser.add_argument("--native", action="store_true", help="only the half that does not need Quire")
    scale = Scale(parser.parse_args())
    fail_on_signals()
    remove_leftovers()
    remove_old_scratch()
    return scale
