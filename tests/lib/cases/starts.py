"""Ways to start and to end: under `quire run` as natively, and nothing is left behind."""

import os
import re
import signal
import subprocess
import tempfile
import time

import quire
from cases import TIMEOUT
from checks import expect
from runner import MIB, run, scratch

BUDGET = 64 * MIB

FILES = {
    "script": ("#!/bin/sh\necho script $1\nexit 3\n", 0o755),
    "interpreted": ("#!/usr/bin/env python3\nprint('by way of env')\n", 0o755),
    "no-shebang": ("echo without a first line\nexit 4\n", 0o755),
    "empty": ("", 0o755),
    "garbage": ("\x7fELFgarbage\n", 0o755),
    "not-executable": ("echo no\n", 0o644),
    "bad-interpreter": ("#!/nonexistent/interpreter\n", 0o755),
    "a name  with blanks": ("#!/bin/sh\necho \"$#: $1,$2\"\n", 0o755),
}
STARTS = [
    ["./script", "argument"],
    ["./interpreted"],
    ["./no-shebang"],
    ["./empty"],
    ["./garbage"],
    ["./not-executable"],
    ["./bad-interpreter"],
    ["./"],
    ["./missing"],
    ["no-such-program"],
    [""],
    ["./a name  with blanks", "x  y", ""],
]


def make_files(directory):
    for name, (text, mode) in FILES.items():
        path = os.path.join(directory, name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)


def check_starts(checks):
    """`env` starts a program as execvp does, and its statuses 126 and 127 are those of `quire`."""
    for words in STARTS:
        with checks.case("started as natively: %r" % words), scratch() as directory:
            make_files(directory)
            shell = ["sh", "-c", 'cd "$0" && exec "$@"', directory]
            native = run([*shell, "env", "--", *words], timeout=TIMEOUT)
            managed = run([*shell, *quire.command_line(words, BUDGET, ["-q"])], timeout=TIMEOUT)
            told = "natively %d %r; %s" % (native.status, native.text, managed.describe())
            expect((native.status, native.text) == (managed.status, managed.text), told)


def check_streams(checks):
    """Streams that the caller closed are closed for the program too."""
    look = "ls -l /proc/self/fd | grep -c -- '->'; echo done; exit 6"
    closed = {"none": "", "0": "0<&-", "1": "1>&-", "2": "2>&-", "0 and 2": "0<&- 2>&-", "all": "0<&- 1>&- 2>&-"}
    for name, redirections in closed.items():
        with checks.case("closed streams: " + name):
            shell = ["sh", "-c", 'exec "$@" ' + redirections, "sh"]
            program = ["sh", "-c", look]
            native = run([*shell, *program], timeout=TIMEOUT)
            managed = run([*shell, *quire.command_line(program, BUDGET, ["-q"])], timeout=TIMEOUT)
            told = "natively %d %r; %s %r" % (native.status, native.text, managed.describe(), managed.text)
            expect((native.status, native.text) == (managed.status, managed.text), told)
    program = quire.command_line(["sh", "-c", "echo out; exit 5"], BUDGET)
    endings = {"full": "2>/dev/full", "closed": "2>&-", "a pipe that nobody reads": "2>&1 >/dev/null | true"}
    for name, redirection in endings.items():
        with checks.case("a report to stderr that can't be written changes nothing: " + name):
            shell = '{ { "$@"; echo "status $?" >&3; } %s; } 3>&1' % redirection
            result = run(["sh", "-c", shell, "sh", *program], timeout=TIMEOUT)
            expect("status 5" in result.text, result.describe() + result.text)
    with checks.case("a warning to a full stderr does not end the program"):
        shell = '{ "$@"; echo "status $?" >&3; } 3>&1 2>/dev/full'
        program = quire.command_line(["sh", "-c", "env -i /bin/true; sleep 0.2; exit 5"], BUDGET)
        result = run(["sh", "-c", shell, "sh", *program], timeout=TIMEOUT)
        expect("status 5" in result.text, result.describe() + result.text)
    with checks.case("a program that writes to a closed pipe ends by SIGPIPE"):
        script = '"$@" | head -1; kill -l $(( ${PIPESTATUS[0]} - 128 ))'
        result = run(["bash", "-c", script, "bash", *quire.command_line(["yes"], BUDGET, ["-q"])], timeout=TIMEOUT)
        expect(result.text == "y\nPIPE\n", result.describe() + result.text)


def check_signals(checks):
    """A signal to `quire` is one to the program; one that ends the program ends `quire`."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        with checks.case("ended by " + number.name):
            command = quire.command_line(["sleep", "30"], BUDGET, ["-q"])
            result = run(command, timeout=TIMEOUT, while_running=lambda process, _: send_after(process, number))
            expect(result.status == -number, result.describe())
    with checks.case("a signal that the program handles"):
        script = "trap 'echo handled; exit 9' TERM; echo ready; sleep 3 & wait"
        command = quire.command_line(["sh", "-c", script], BUDGET, ["-q"])
        result = run(command, timeout=TIMEOUT, while_running=lambda process, _: send_after(process, signal.SIGTERM))
        expect(result.status == 9 and result.text == "ready\nhandled\n", result.describe() + result.text)


def send_after(process, number):
    time.sleep(1)
    os.kill(process.pid, number)


def check_killed(checks):
    """`quire` is killed: its program loses nothing or ends, and the next start leaves nothing behind."""
    with checks.case("after SIGKILL of quire nothing is left behind"), tempfile.TemporaryDirectory() as directory:
        how = {"environment": {"TMPDIR": directory}, "timeout": TIMEOUT}
        command = quire.command_line(["sleep", "30"], BUDGET, ["-q", "--no-spill"])
        # The program goes on.
        run(command, while_running=lambda process, _: send_after(process, signal.SIGKILL), leaves=True, **how)
        left = os.listdir(directory)
        for name in left:
            expect(re.match("quire-run-", name), "left behind: " + name)
            os.utime(os.path.join(directory, name), (time.time() - 60, time.time() - 60))
        result = run(quire.command_line(["true"], BUDGET, ["-q", "--no-spill"]), **how)
        expect(result.status == 0 and os.listdir(directory) == [], "left behind: %s" % os.listdir(directory))
    with checks.case("quire leaves alone what another one uses"), tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "TMPDIR": directory}
        first = subprocess.Popen(quire.command_line(["sleep", "30"], BUDGET, ["-q", "--no-spill"]), env=environment)
        try:
            time.sleep(1)
            (name,) = os.listdir(directory)
            os.utime(os.path.join(directory, name), (time.time() - 60, time.time() - 60))
            command = quire.command_line(["true"], BUDGET, ["-q", "--no-spill"])
            result = run(command, environment={"TMPDIR": directory}, timeout=TIMEOUT)
            expect(result.status == 0 and os.listdir(directory) == [name], "there are %s" % os.listdir(directory))
        finally:
            first.terminate()
            first.wait()
        expect(os.listdir(directory) == [], "left behind: %s" % os.listdir(directory))


def check(checks, scale):
    check_starts(checks)
    check_streams(checks)
    check_signals(checks)
    check_killed(checks)
