"""What `tests/run` does once all that the tests need is installed.

Builds the release binary, which carries the preload library, runs `cargo test --workspace`, then the scripts
of tests/, each of which also runs alone. One line for each check; the last line counts them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading

import cases
from checks import Checks, expect
from runner import REPOSITORY, TESTS, fail_on_signals
import stacks
import turns

# Scripts of tests/.
SCRIPTS = ("bench", "cases", "failures", "libcs", "promise", "record", "unlimited", "verify")
# Once more with programs that sleep at first, as they do by default: woken soon after their start, or when memory is short.
ASLEEP = (("quick", {"QUIRE_WAKE": "soon"}), ("verify", {"QUIRE_WAKE": "short", "ONLY": "forks,heaps"}))
# So many groups of `cases` each day, in turns, in the small form; all of them else.
GROUPS = 3
# Comparisons of time, which want a quiet machine and the full size.
TIMED = ("halves", "kernel-swap")
SIZES = ("small", "full", "soak")

# Seconds for one script or one cargo command, before it is ended.
MOST_SECONDS = {"small": 2400, "full": 4 * 3600, "soak": 12 * 3600}

# What the tests of the model are told beside what they take by themselves. A caller's own values go before.
SETTINGS = {
    "small": {"QUIRE_EVENTS": "10000000"},
    "full": {"QUIRE_FULL": "1", "QUIRE_SEEDS": "12"},
    "soak": {"QUIRE_FULL": "1", "QUIRE_SEEDS": "12"},
}

LINE = re.compile(r"^(ok  |FAIL) ")
COUNT = re.compile(r"^\d+ passed, \d+ failed$")
# What the random walks have met, up to the next line of the tests' own.
HITS = re.compile(r"^\d+ events in .*; hits of .*?(?=^(?:test|running) )", re.MULTILINE | re.DOTALL)


def cargo(checks, size, *arguments):
    """One cargo command as a check. Of its output the hits of the walks are shown, all of it where it failed. True if it
    passed."""
    failed = checks.failed
    with checks.case("cargo " + " ".join(arguments)):
        command = ["cargo", *arguments]
        environment = {**SETTINGS[size], **os.environ}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, cwd=REPOSITORY, env=environment, **pipes) as process:
            with limit(process, MOST_SECONDS[size]):
                output = process.stdout.read().decode(errors="replace")
        for text in [output] if process.returncode else HITS.findall(output):
            print(text, flush=True)
        expect(process.returncode == 0, "status %d" % process.returncode)
    return checks.failed == failed


@contextlib.contextmanager
def limit(process, seconds):
    """When so many seconds are over, the stacks of the process and all of its descendants are printed, and all are killed."""

    def strike():
        tree = stacks.tree(process.pid)
        print("     not ended after %d s: %s\n%s" % (seconds, " ".join(process.args), stacks.of(tree)), flush=True)
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(seconds, strike)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def count_line(checks, line):
    """Counts a line of a script."""
    if LINE.match(line):
        checks.passed += line.startswith("ok")
        checks.failed += line.startswith("FAIL")


def script(checks, name, size, settings=None):
    """Runs a script and counts its checks. One that ends without its count has failed as a whole."""
    command = [os.path.join(TESTS, name), "--" + size]
    how = {"stdout": subprocess.PIPE, "text": True, "env": {**os.environ, **(settings or {})}}
    finished = False
    with subprocess.Popen(command, **how) as process, limit(process, MOST_SECONDS[size]):
        for line in process.stdout:
            if COUNT.match(line):
                finished = True
                continue
            print(line, end="", flush=True)
            count_line(checks, line)
    if not finished:
        with checks.case(name):
            expect(False, "it ended with status %d before its last check" % process.returncode)


def groups_asleep(size):
    """The groups of `cases` that run once more with programs that are woken when memory is short."""
    groups = cases.groups()
    return ",".join(turns.of_today(groups, GROUPS) if size == "small" else groups)


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in SIZES:
        sys.exit("usage: tests/run small|full|soak")
    size = sys.argv[1]
    fail_on_signals()
    checks = Checks("run")
    if cargo(checks, size, "build", "--release") and cargo(checks, size, "test", "--workspace"):
        for name in SCRIPTS if size == "small" else SCRIPTS + TIMED:
            script(checks, name, size)
        for name, settings in ASLEEP:
            script(checks, name, size, settings)
        script(checks, "cases", size, {"QUIRE_WAKE": "short", "ONLY": groups_asleep(size)})
    checks.finish()


if __name__ == "__main__":
    main()
