"""What all threads of a run do at this moment: for a run that has to be ended by force, or nobody knows why it hung."""

import bisect
import os
import shutil
import subprocess

# Seconds that a debugger, or a look at the watchdog, may take; and the most text of a debugger's that is kept.
PATIENCE = 20
MOST_TEXT = 20000


def of(pids, debugger=True):
    """The state of all threads of the processes, the watchdog's view of those that Quire manages, and their stacks in the
    program where a debugger is installed and wanted. Text of several lines."""
    lines = []
    for pid in sorted(pids):
        lines += process(pid)
        if _name(pid) == "quire":
            lines += watchdog(pid)
    for pid in sorted(pids) if debugger else ():
        lines += _debugger(pid)
    return "\n".join(lines)


def tree(pid):
    """A process and its descendants, itself first."""
    children = []
    for tid in _entries("/proc/%d/task" % pid):
        children += map(int, _read("/proc/%d/task/%s/children" % (pid, tid)).split())
    return [pid] + [below for child in children for below in tree(child)]


def process(pid):
    """The lines about one process, which may be gone."""
    command = _read("/proc/%d/cmdline" % pid).replace("\0", " ").strip()
    lines = ["process %d: %s" % (pid, command or _name(pid) or "(gone)")]
    mappings = Mappings(pid)
    for tid in sorted(map(int, _entries("/proc/%d/task" % pid))):
        lines += thread(pid, tid, mappings)
    return lines


def thread(pid, tid, mappings):
    """The lines about one thread: its name, what it waits for and where; then the kernel's part of its stack."""
    at = "/proc/%d/task/%d/" % (pid, tid)
    name, wchan = _read(at + "comm").strip(), _read(at + "wchan").strip()
    # The state stands behind the name, which is in parentheses and may hold some itself.
    state = (_read(at + "stat").rpartition(")")[2].split() or ["?"])[0]
    call = _read(at + "syscall").split()
    line = "  thread %d (%s): state %s, in %s, system call %s" % (tid, name, state, wchan or "?", " ".join(call[:-2]) or "?")
    if len(call) > 1 and call[-1].startswith("0x"):
        line += ", at " + mappings.place(int(call[-1], 16))
    return [line] + ["    " + frame for frame in _read(at + "stack").splitlines()]


def watchdog(quire):
    """What the watchdogs of its processes say, as `quire` number `quire` can tell."""
    command = ["/proc/%d/exe" % quire, "watchdogs", str(quire)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return ["  watchdogs: not to be had: %s" % problem]
    return ["  " + line for line in done.stdout.decode(errors="replace").splitlines()]


class Mappings:
    """Finds the mapping of an address of a process."""

    def __init__(self, pid):
        self.starts, self.entries = [], []
        for line in _read("/proc/%d/maps" % pid).splitlines():
            fields = line.split(None, 5)
            start, end = (int(part, 16) for part in fields[0].split("-"))
            self.starts.append(start)
            self.entries.append((end, int(fields[2], 16) - start, fields[5] if len(fields) > 5 else "(anonymous)"))

    def place(self, address):
        """Mapping and offset in its file."""
        index = bisect.bisect(self.starts, address) - 1
        if index < 0 or self.entries[index][0] <= address:
            return "%#x" % address
        _, shift, name = self.entries[index]
        return "%s+%#x" % (os.path.basename(name), address + shift)


def _debugger(pid):
    """The whole stacks, where gdb is there. It stops the process for as long; a hung one does not mind."""
    if not shutil.which("gdb"):
        return []
    commands = ["-ex", "set debuginfod enabled off", "-ex", "set pagination off", "-ex", "thread apply all bt 20"]
    command = ["timeout", "-k", "2", str(PATIENCE), "gdb", "-q", "-nx", "-batch", "-p", str(pid), *commands]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    text = done.stdout.decode(errors="replace")[:MOST_TEXT]
    kept = [line for line in text.splitlines() if line.startswith(("#", "Thread ", " "))]
    return ["gdb on process %d:" % pid] + ["  " + line for line in kept] if kept else []


def _name(pid):
    try:
        return os.path.basename(os.readlink("/proc/%d/exe" % pid))
    except OSError:
        return ""


def _entries(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""
