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

import stacks
from cgroup import Cgroup, Sampler
from checks import expect

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REPOSITORY = os.path.dirname(TESTS)
MIB = 1 << 20

# Seconds in which what a program started may end after it.
GRACE = 2

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

    def __init__(self, status, seconds, peak, oom_kills, digest, text, stderr, at_limit):
        self.status = status
        self.seconds = seconds
        self.peak = peak
        self.oom_kills = oom_kills
        # Of stdout: the hash, and the text where it is short.
        self.digest = digest
        self.text = text
        self.stderr = stderr
        self.timed_out = at_limit is not None
        # What all threads did when the time was up; None where it ended by itself.
        self.at_limit = at_limit

    def was_killed(self):
        """By SIGKILL, itself or a child of the shell it ran in."""
        return self.oom_kills > 0 or self.status in (-signal.SIGKILL, 128 + signal.SIGKILL)

    def describe(self):
        if self.timed_out:
            return "timed out after %.0f s; %s" % (self.seconds, self.last_words())
        return "status %d after %.1f s; %s" % (self.status, self.seconds, self.last_words())

    def last_words(self):
        return "stderr: " + (self.stderr.strip()[-400:] or "empty")


def run(
    command,
    limit=None,
    swap=False,
    stdin=None,
    timeout=300,
    no_thp=False,
    environment=None,
    while_running=None,
    hangs=False,
    leaves=False,
):
    """Runs `command` in a fresh cgroup and returns a Result. It is to leave nothing behind: no process, no socket, and no file
    among the temporary ones.

    `limit` in bytes; `stdin` a path; `while_running(process, cgroup)` is called once it has been started. When `timeout` is
    over, the stacks of all of its threads are printed, unless it is known to hang (`hangs`), and all of it is killed.
    `leaves`: what it leaves behind is meant.
    """
    with scratch() as directory, Cgroup(str(next(_numbers)), limit, swap) as cgroup:
        streams = _Streams(directory, stdin)
        temporary = os.path.join(directory, "tmp")
        os.mkdir(temporary, 0o1777)
        start = time.monotonic()
        with Sampler(cgroup.resident_anonymous) as sampler:
            process = subprocess.Popen(
                command,
                stdin=streams.stdin,
                stdout=streams.stdout,
                stderr=streams.stderr,
                env={**os.environ, "LC_ALL": "C", "TMPDIR": temporary, **(environment or {})},
                start_new_session=True,
                preexec_fn=lambda: _prepare(cgroup, no_thp),
            )
            at_limit = _wait(process, cgroup, timeout, while_running, not hangs)
            seconds = time.monotonic() - start
            left = _left_behind(cgroup, temporary) if at_limit is None and not leaves else []
            cgroup.kill()
        oom_kills = cgroup.oom_kills()
        digest, text, stderr = streams.finish()
    if at_limit is not None and not hangs:
        print("     not ended after %d s: %s\n%s" % (timeout, " ".join(command), at_limit), flush=True)
    expect(not left, "left behind: %s" % ", ".join(left))
    return Result(process.returncode, seconds, sampler.peak, oom_kills, digest, text, stderr, at_limit)


def _left_behind(cgroup, temporary):
    """What is there of a run that has ended: names of processes, files and sockets. Processes have a moment for their end."""
    until = time.monotonic() + GRACE
    while cgroup.pids() and time.monotonic() < until:
        time.sleep(0.01)
    found = [stacks.process(pid)[0] for pid in cgroup.pids()]
    found += ["file " + name for name in sorted(os.listdir(temporary))]
    with open("/proc/net/unix") as sockets:
        found += ["socket " + line.split()[-1] for line in sockets if temporary in line]
    with open("/proc/self/mounts") as mounts:
        found += ["mount " + line.split()[1] for line in mounts if temporary in line]
    return found


def _prepare(cgroup, no_thp):
    """In the child, before exec. A shell that started the tests in the background had them ignore two signals."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    cgroup.enter()
    if no_thp:
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def _wait(process, cgroup, timeout, while_running, debugger):
    """Waits for the end, by force after `timeout` seconds: then what all threads did. What it started is left running."""
    ended = False
    try:
        if while_running:
            while_running(process, cgroup)
        process.wait(timeout)
        ended = True
        return None
    except subprocess.TimeoutExpired:
        return stacks.of(cgroup.pids(), debugger)
    finally:
        if not ended:
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
