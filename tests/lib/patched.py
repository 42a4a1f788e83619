"""Copies of the repository in which something is changed, and what the tests say of it there.

A change may do anything: answer -1 where a process id is expected, remove what is not its own. So each command runs in
namespaces of its own: it sees no process but its own, all of them end with it, and /tmp is its own."""

import ctypes
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import zlib

import cgroup
from runner import REPOSITORY, work_directory

# Seconds in which a changed tree has to be built.
BUILD_SECONDS = 900

# What makes every run of the tests the same, and short.
SETTINGS = {
    "QUIRE_SEEDS": "2",
    "QUIRE_FUZZ_SECONDS": "1",
    # A changed walk needs no more to fail, where it fails at all.
    "QUIRE_EVENTS": "500000",
    "PROPTEST_RNG_SEED": "1",
    "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "1",
    "CARGO_INCREMENTAL": "1",
}
APART = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--ipc", "sh", "-c"]
PRIVATE = 'mount -t tmpfs -o mode=1777 tmpfs /tmp && exec "$@"'

PR_SET_PDEATHSIG = 1

CAUGHT, HUNG, MISSED, UNVIABLE = "caught", "hung", "missed", "unviable"


class Check:
    """A command that may notice a change: `cargo test ..`, or a script of this directory with its arguments. Words like
    NAME=VALUE behind the command are its environment."""

    def __init__(self, text):
        words = shlex.split(text)
        self.text = text
        setting = lambda word: "=" in word and word.split("=")[0].isupper()
        self.settings = dict(word.split("=", 1) for word in words if setting(word))
        self.words = [word for word in words if not setting(word)]
        self.is_cargo = self.words[:2] == ["cargo", "test"]

    def build_command(self):
        if not self.is_cargo:
            return ["cargo", "build", "--profile", "mutants", "-p", "quire-mm"]
        words = self.words[2:]
        names = words[: words.index("--")] if "--" in words else words
        return ["cargo", "test", "--profile", "mutants", "--no-run", *names]

    def run_command(self):
        if self.is_cargo:
            return ["cargo", "test", "--profile", "mutants", *self.words[2:]]
        return self.words


class Outcome:
    """How a command ended."""

    def __init__(self, status, output, seconds, timed_out):
        self.status = status
        self.output = output
        self.seconds = seconds
        self.timed_out = timed_out


class Tree:
    """A copy of the repository, with what is built from it. `number` tells several apart that are used at once."""

    def __init__(self, number=0):
        self.name = "mutants-%d" % number
        self.work = os.path.join(work_directory(), self.name)
        self.root = os.path.join(self.work, "tree")
        self.target = os.path.join(self.work, "target")
        self.inputs = os.path.join(self.work, "inputs")
        # Of cgroups: process ids don't tell apart what runs in namespaces of its own.
        self.job = "%s-%x-" % (self.name, zlib.crc32(self.work.encode()))
        os.makedirs(self.inputs, exist_ok=True)

    def path(self, name):
        return os.path.join(self.root, name)

    def sync(self):
        """Makes the copy equal to the repository, and returns a digest of what the tests depend on. Equal files keep
        their time, so that nothing is built anew for them."""
        names = files_of_repository()
        digest = hashlib.sha256()
        for name in names:
            content = read(os.path.join(REPOSITORY, name))
            if name.startswith(("crates/", "tests/", "Cargo", ".cargo/")):
                digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
            self.restore(name, content)
        self._remove_others(set(names))
        return digest.hexdigest()

    def restore(self, name, content=None):
        """Makes one file what it is in the repository."""
        source, target = os.path.join(REPOSITORY, name), self.path(name)
        if not os.path.exists(source):
            if os.path.exists(target):
                os.remove(target)
        elif not os.path.isfile(target) or read(target) != (read(source) if content is None else content):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(source, target)
            os.utime(target)

    def _remove_others(self, names):
        for directory, _, files in os.walk(self.root):
            for file in files:
                path = os.path.join(directory, file)
                if os.path.relpath(path, self.root) not in names:
                    os.remove(path)

    def apply(self, diff, *arguments):
        """Applies a diff by `patch`; the files it changed are the caller's to restore. Says what went wrong, or None."""
        command = ["patch", "--silent", "--batch", "--forward", "--no-backup-if-mismatch", "--reject-file=-", *arguments]
        done = subprocess.run(command, cwd=self.root, input=diff.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout.decode(errors="replace").strip() or "patch failed" if done.returncode else None

    def environment(self, check=None):
        binary = os.path.join(self.target, "mutants", "quire")
        job = {"CARGO_TARGET_DIR": self.target, "QUIRE": binary, "QUIRE_TEST_DIR": self.inputs, "QUIRE_TEST_JOB": self.job}
        return {**os.environ, **SETTINGS, **job, **(check.settings if check else {})}

    def build(self, check):
        """Builds what `check` runs; None, or what the compiler says."""
        outcome = self._run(check.build_command(), check, BUILD_SECONDS)
        return outcome.output or "killed" if outcome.status else None

    def run(self, check, seconds):
        """Runs `check`, which has been built, for so many seconds at the most."""
        return self._run([*APART, PRIVATE, "sh", *check.run_command()], check, seconds)

    def _run(self, command, check, seconds):
        start = time.monotonic()
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command, cwd=self.root, env=self.environment(check), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_end_with_parent,
            )
            timed_out = False
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                _kill_group(process)
                cgroup.remove_leftovers(self.job)
            output.seek(0)
            text = output.read().decode(errors="replace")
        return Outcome(process.returncode, text, time.monotonic() - start, timed_out)

    def verdict(self, check, seconds):
        """What `check` says of the tree as it is, and the output."""
        problem = self.build(check)
        if problem:
            return UNVIABLE, problem
        outcome = self.run(check, seconds)
        if outcome.timed_out:
            return HUNG, outcome.output
        return (CAUGHT if outcome.status else MISSED), outcome.output


def files_of_repository():
    """What belongs to the repository, committed or not, sorted."""
    listing = ["git", "-C", REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(name for name in names if name and os.path.isfile(os.path.join(REPOSITORY, name)))


def read(path):
    with open(path, "rb") as file:
        return file.read()


def _end_with_parent():
    """In the child, before exec: whoever waits for it may be killed, and it may be one that never ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _kill_group(process):
    """Ends the command; with the first process of its namespace all in it end."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
