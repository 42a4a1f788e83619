"""What the kernel lets a program have, by its overcommit mode: the same answers under Quire in each mode, also when that changes
while the program runs. The mode is the machine's: it is changed for moments, with room for whatever else runs, and put back."""

import contextlib
import os
import threading

import quire
from cases import case_program, expect_same
from checks import expect
from runner import MIB, expect_success, run, verifier

DIRECTORY = "/proc/sys/vm"
TIMEOUT = 30
BUDGET = 64 * MIB
# What may be committed in mode 2 beyond what is, in KiB.
ROOM = 16 * 1024 * 1024


def read(name):
    with open(os.path.join(DIRECTORY, name), encoding="ascii") as file:
        return file.read().strip()


def write(name, value):
    with open(os.path.join(DIRECTORY, name), "w", encoding="ascii") as file:
        file.write(value)


def may_set():
    try:
        write("overcommit_memory", read("overcommit_memory"))
    except OSError:
        return False
    return True


def committed():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Committed_AS:"))


@contextlib.contextmanager
def mode(number, seconds=2.0):
    """So many seconds at the most: what began in mode 2 is charged as in that mode to its end."""
    # Of these two one is 0, and to set the one is to forget the other.
    kept = {name: read(name) for name in ("overcommit_memory", "overcommit_ratio", "overcommit_kbytes")}
    which = "overcommit_kbytes" if kept["overcommit_kbytes"] != "0" else "overcommit_ratio"

    def restore():
        write("overcommit_memory", kept["overcommit_memory"])
        write(which, kept[which])

    timer = threading.Timer(seconds, restore)
    write("overcommit_kbytes", str(committed() + ROOM))
    write("overcommit_memory", str(number))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        restore()


def answers(checks, name, number, what, budget, options=()):
    command = [case_program("overcommit"), what]
    with checks.case(name):
        with mode(number):
            native = run(command, timeout=TIMEOUT)
        expect_success(native)
        with mode(number):
            managed, report = quire.run_under(command, budget, options, timeout=TIMEOUT)
        expect_same(native, managed)
        # What sleeps may end before it has joined.
        joined = report is not None and report["managed"] - report["forked"] == 1
        expect(joined or quire.sleeps(), "not managed: %s" % managed.describe())
        expect(report["unmanaged"] == 0, "outside: %s" % report["unmanaged_because"])


def check(checks, scale):
    if not may_set():
        with checks.case("overcommit") as figures:
            figures.append("skipped: %s/overcommit_memory can't be set" % DIRECTORY)
        return
    for budget in (None, BUDGET):
        suffix = " in a budget" if budget else ""
        for number in (0, 1, 2):
            answers(checks, "overcommit mode %d%s" % (number, suffix), number, "asks", budget)
        # Awake: what the kernel charges when a program wakes stays charged, of which mode 2 knows.
        answers(checks, "overcommit modes that change%s" % suffix, 0, "changes", budget, [quire.AWAKE])
    with checks.case("contents under pressure in overcommit mode 2"):
        command = [verifier(), "--bytes", str(32 * MIB), "--phase", "chaos", "--seconds", "0.1"]
        with mode(2, seconds=0.3):
            ran, report = quire.run_under(command, 16 * MIB, timeout=TIMEOUT)
        expect_success(ran)
        # While it sleeps, so short a run may end before there is too much.
        expect(quire.evicted(report) > 0 or quire.sleeps(), "nothing was moved out")
