"""Runs a command in a cgroup of its own: output, status, time, peak memory, a timeout that ends all of it."""

import contextlib
import ctypes
import glob
import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from cgroup import Cgroup, Sampler
from checks import expect

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REPOSITORY = os.path.dirname(TESTS)
MIB = 1 << 20

PR_SET_THP_DISABLE = 41
_numbers = itertools.count()


def work_directory():
    """Where inputs are kept and outputs pass through: on a disk, outside the repository."""
    path = os.environ.get("QUIRE_TEST_DIR", "/var/tmp/quire-tests-%d" % os.getuid())
    os.makedirs(path, exist_ok=True)
    return path


@contextlib.contextmanager
def scratch():
    """A directory that goes away again."""
    path = tempfile.mkdtemp(prefix="scratch-%d-" % os.getpid(), dir=work_directory())
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_old_scratch():
    """Removes scratch directories whose owner was killed before it could."""
    for name in os.listdir(work_directory()):
        if name.startswith("scratch-") and not os.path.exists("/proc/" + name.split("-")[1]):
            shutil.rmtree(os.path.join(work_directory(), name), ignore_errors=True)


class Result:
    """How a run ended. `peak` is the largest sample of its resident anonymous memory, in bytes."""

    def __init__(self, status, seconds, peak, oom_kills, digest, text, stderr, timed_out):
        self.status = status
        self.seconds = seconds
        self.peak = peak
        self.oom_kills = oom_kills
        # Of stdout: the hash, and the text where it is short.
        self.digest = digest
        self.text = text
        self.stderr = stderr
        self.timed_out = timed_out

    def was_killed(self):
        """By SIGKILL, itself or a child of the shell it ran in."""
        return self.oom_kills > 0 or self.status in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def describe(self):
        if self.timed_out:
            return "timed out after %.0f s; %s" % (self.seconds, self.last_words())
        return "status %d after %.1f s; %s" % (self.status, self.seconds, self.last_words())

    def last_words(self):
        return "stderr: " + (self.stderr.strip()[-400:] or "empty")


def run(command, limit=None, swap=False, stdin=None, timeout=300, no_thp=False, environment=None, while_running=None):
    """Runs `command` in a fresh cgroup and returns a Result.

    `limit` in bytes; `stdin` a path; `while_running(process, cgroup)` is called once it has been started.
    """
    with scratch() as directory, Cgroup(str(next(_numbers)), limit, swap) as cgroup:
        streams = _Streams(directory, stdin)
        start = time.monotonic()
        with Sampler(cgroup.resident_anonymous) as sampler:
            process = subprocess.Popen(
                command,
                stdin=streams.stdin,
                stdout=streams.stdout,
                stderr=streams.stderr,
                env={**os.environ, "LC_ALL": "C", **(environment or {})},
                start_new_session=True,
                preexec_fn=lambda: _prepare(cgroup, no_thp),
            )
            timed_out = _wait(process, cgroup, timeout, while_running)
        seconds = time.monotonic() - start
        oom_kills = cgroup.oom_kills()
        digest, text, stderr = streams.finish()
    return Result(process.returncode, seconds, sampler.peak, oom_kills, digest, text, stderr, timed_out)


def _prepare(cgroup, no_thp):
    """In the child, before exec."""
    cgroup.enter()
    if no_thp:
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def _wait(process, cgroup, timeout, while_running):
    """Waits for the end, by force after `timeout` seconds. True if it had to be forced."""
    try:
        if while_running:
            while_running(process, cgroup)
        process.wait(timeout)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        cgroup.kill()
        process.wait()


class _Streams:
    """The files a command reads and writes."""

    def __init__(self, directory, stdin):
        self.stdin = open(stdin or os.devnull, "rb")
        self.stdout = open(os.path.join(directory, "stdout"), "w+b")
        self.stderr = open(os.path.join(directory, "stderr"), "w+b")

    def finish(self):
        """The digest and the first part of what was written to stdout, and the text of stderr."""
        self.stdout.seek(0)
        first = self.stdout.read(MIB)
        digest = hashlib.sha256(first)
        for piece in iter(lambda: self.stdout.read(MIB), b""):
            digest.update(piece)
        self.stderr.seek(0)
        texts = [raw.decode(errors="replace") for raw in (first, self.stderr.read())]
        for file in (self.stdin, self.stdout, self.stderr):
            file.close()
        return digest.hexdigest(), *texts


def expect_success(result):
    expect(not result.timed_out and result.status == 0, result.describe())


def fail_on_signals():
    """Lets SIGTERM, SIGHUP end a script the way SIGINT does, so that what it set up is taken down."""

    def end(*_):
        sys.exit(130)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def program(name):
    """The path of a program in tests/programs."""
    return os.path.join(TESTS, "programs", name)


def compiled(name, sources, more=()):
    """Compiles a C program of the tests where it is older than its sources; returns its path. `more`: further flags."""
    binary = os.path.join(work_directory(), name)
    if not os.path.exists(binary) or os.path.getmtime(binary) < max(map(os.path.getmtime, sources)):
        units = [path for path in sources if path.endswith(".c")]
        flags = ["-O2", "-pthread", "-Wall", "-Wextra", "-Werror"]
        fresh = "%s.%d" % (binary, os.getpid())
        subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", fresh, *units, *more], check=True)
        os.rename(fresh, binary)
    return binary


def verifier():
    """The path of the verifier."""
    return compiled("verifier", sorted(glob.glob(program("verifier/*.[ch]"))))


def shape():
    """The path of the program with memory that is worth shaping."""
    return compiled("shape", [program("shape.c")])


def heaps():
    """The path of the program that checks malloc's blocks."""
    return compiled("heaps", [program("heaps.c")])
