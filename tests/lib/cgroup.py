"""Memory cgroups, version 1 or 2: a limit, what is resident, who was killed."""

import contextlib
import glob
import os
import signal
import threading
import time

V1_MOUNT = "/sys/fs/cgroup/memory"
V2_MOUNT = "/sys/fs/cgroup"
SAMPLE_SECONDS = 0.05


def _prefix(job):
    """Tells the cgroups of several runs apart whose processes don't see each other."""
    return "quire-test%s-" % job


PREFIX = _prefix(os.environ.get("QUIRE_TEST_JOB", ""))


class Cgroup:
    """A fresh memory cgroup; a context manager that kills and removes what is left of it.

    `limit` in bytes, or None. `swap` says whether it may use the system's swap.
    """

    def __init__(self, name, limit=None, swap=False):
        self.v1 = os.path.exists(V1_MOUNT + "/memory.limit_in_bytes")
        mount = V1_MOUNT if self.v1 else V2_MOUNT
        self.path = "%s/%s%d-%s" % (mount, PREFIX, os.getpid(), name)
        if not self.v1:
            _write(mount + "/cgroup.subtree_control", "+memory")
        os.mkdir(self.path)
        if limit is not None:
            self._set_limit(int(limit), swap)

    def _set_limit(self, limit, swap):
        if self.v1:
            self._set("memory.limit_in_bytes", limit)
            if not swap:
                self._set("memory.memsw.limit_in_bytes", limit, optional=True)
                self._set("memory.swappiness", 0)
            return
        self._set("memory.max", limit)
        if not swap:
            self._set("memory.swap.max", 0, optional=True)

    def _set(self, name, value, optional=False):
        """Writes one of the cgroup's files; an optional one may be missing where the kernel has no swap."""
        path = os.path.join(self.path, name)
        if not optional or os.path.exists(path):
            _write(path, str(value))

    def enter(self):
        """Moves the calling process in; for `preexec_fn`."""
        _write(self.path + "/cgroup.procs", "0")

    def resident_anonymous(self):
        """`rss` of memory.stat in bytes: anonymous memory, with transparent huge pages, without files."""
        key = "rss " if self.v1 else "anon "
        return int(self._field("memory.stat", key))

    def oom_kills(self):
        """How many processes the kernel killed here for want of memory."""
        return int(self._field("memory.oom_control" if self.v1 else "memory.events", "oom_kill "))

    def _field(self, name, key):
        with open(os.path.join(self.path, name)) as file:
            for line in file:
                if line.startswith(key):
                    return line[len(key):]
        raise OSError("%s has no %s" % (name, key))

    def pids(self):
        """The processes in the cgroup."""
        return _read_pids(self.path)

    def kill(self):
        """Kills all processes in the cgroup, and waits until they are gone."""
        for _ in range(200):
            pids = _read_pids(self.path)
            if not pids:
                return
            for pid in pids:
                _kill_quietly(pid)
            time.sleep(0.02)

    def remove(self):
        self.kill()
        for _ in range(50):
            try:
                os.rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError:  # Busy: the last process is still being taken apart.
                time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


class Sampler(threading.Thread):
    """Calls `measure` every 50 ms and keeps the largest answer in `peak`."""

    def __init__(self, measure):
        super().__init__(daemon=True)
        self.measure = measure
        self.peak = 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, self.measure())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def remove_leftovers(job=None):
    """Removes cgroups of tests whose process has ended without cleaning up; of the run that QUIRE_TEST_JOB named `job`, which has
    ended with all its processes, each of them."""
    prefix = PREFIX if job is None else _prefix(job)
    for mount in (V1_MOUNT, V2_MOUNT):
        for path in glob.glob("%s/%s*" % (mount, prefix)):
            owner = path.split(prefix)[1].split("-")[0]
            # Of a run that has ended, another process may have the number by now.
            if job is not None or not os.path.exists("/proc/" + owner):
                with contextlib.suppress(OSError):  # Busy: the last process is still being taken apart.
                    os.rmdir(path)


def _read_pids(path):
    try:
        with open(path + "/cgroup.procs") as file:
            return [int(line) for line in file]
    except OSError:
        return []


def _kill_quietly(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)
