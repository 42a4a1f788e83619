"""Programs that sleep as plain kernel memory until memory is short: those that fit never wake, and cost what they cost natively;
those that do not are woken in time, in the middle of whatever they do, with all of their contents."""

import itertools
import os
import signal
from random import Random

import quire
from cases import case_program, expect_same, run
from checks import expect
from runner import MIB, expect_success, verifier

BUDGET = 64 * MIB
# When a program is woken: soon after its start, or when memory is short; whatever the caller's QUIRE_WAKE says.
SOON = {"QUIRE_WAKE": "soon"}
SHORT = {"QUIRE_WAKE": "short"}


def asleep(command, budget, environment=SHORT, **how):
    return quire.run_under(command, budget, [quire.ASLEEP], timeout=120, environment=environment, **how)


def check_fits(checks):
    command = [verifier(), "--bytes", str(32 * MIB), "--phase", "random", "--seconds", "0.5"]
    with checks.case("sleep: what fits never wakes") as figures:
        native = run(command, timeout=60)
        done, report = asleep(command, 128 * MIB)
        expect_success(done)
        expect((report["slept"], report["woken"]) == (1, 0), "slept %d, woken %d" % (report["slept"], report["woken"]))
        expect(report["count"] == 0 and quire.evicted(report) == 0, "%d faults" % report["count"])
        figures.append("peak %d KiB natively, %d KiB asleep" % (native.peak >> 10, done.peak >> 10))
    with checks.case("sleep: a small program does not even join"):
        done, report = asleep(["true"], BUDGET)
        expect_success(done)
        expect(report["managed"] == 0 and report["unmanaged"] == 0, "%d managed" % report["managed"])


def check_short(checks):
    """The verifier, its memory larger than the budget: woken once, and right from then on."""
    for phase in ("chaos", "random"):
        command = [verifier(), "--bytes", str(48 * MIB), "--phase", phase, "--seconds", "1", "--seed", "3"]
        with checks.case("sleep: woken when memory is short: " + phase) as figures:
            done, report = asleep(command, 24 * MIB, check=True)
            expect_success(done)
            expect((report["slept"], report["woken"]) == (1, 1), "slept %d, woken %d" % (report["slept"], report["woken"]))
            adopted, evicted = report["adopted_pages"], quire.evicted(report)
            # What maps all at once for which there is no room is woken before it can touch that.
            expect((adopted > 1024 or phase == "random") and evicted > 1024, "%d pages taken over, %d moved out" % (adopted, evicted))
            figures.append("%d pages taken over, %d moved out" % (adopted, evicted))


# What a program does in whose middle it wakes, beside faults of four threads, calls and forks; and the status then.
IN_THE_MIDDLE = {"": 0, "signals": 0, "stop": 0, "refused": 0, "exec": 0, "exit": 7, "kill": -signal.SIGKILL}
# Microseconds from its start within which it is woken, on a busy machine too.
UNTIL_AWAKE = 30000
# So many wakes, and there are some of each kind.
MANY = 200


def wakes(scale):
    """How often programs are woken in the middle: $QUIRE_WAKES, or by the scale."""
    return int(os.environ.get("QUIRE_WAKES", 10000 if scale.soak else 1000 if scale.full else 200))


def wake_in_the_middle(how, number, random):
    """Runs a program that is woken at any moment. How many were: another program that it becomes is woken as well."""
    after = random.randrange(300, 3000) if how == "stop" else random.randrange(1000, UNTIL_AWAKE)
    command = [case_program("waking", "-pthread"), "40", *([how, str(after)] if how else [])]
    done, report = asleep(command, 16 * MIB, environment=SOON, check=number % 8 == 0)
    if how == "refused":
        # The kernel makes no thread for it meanwhile, and does in between.
        expect(report["unmanaged"] == 0, "run %d: %s" % (number, report["unmanaged_because"]))
    text = "" if how in ("exit", "kill") else "wrong 0, with children\n"
    expect(done.status == IN_THE_MIDDLE[how] and done.text == text, "run %d, %s: %s" % (number, command[1:], done.describe()))
    return report["woken"]


def check_middle(checks, scale):
    """Woken at any moment: 4 threads that fault, calls under way, locks, marks, forks, signals, stops, exec and the end."""
    count = wakes(scale)
    with checks.case("sleep: woken in the middle, %d times" % count) as figures:
        random, woken = Random(count), dict.fromkeys(IN_THE_MIDDLE, 0)
        for number in itertools.count():
            if sum(woken.values()) >= count:
                break
            # Some end before it is their turn.
            expect(number < 4 * count + 100, "woken %s times in %d runs" % (woken, number))
            for how in IN_THE_MIDDLE:
                woken[how] += wake_in_the_middle(how, number, random)
            if number % 100 == 99:
                print("     woken %d times" % sum(woken.values()), flush=True)
        figures.append("%d runs of each kind, woken %s" % (number, woken))
        expect(count < MANY or all(woken.values()), "not in the middle of all of it")


def check_ends(checks):
    """Killed, stopped, another program and the end, at the moment when it wakes."""
    for word, status in (("exit 7", 7), ("kill -9 $$", -signal.SIGKILL), ("(sleep 0.01; kill -STOP $$; sleep 0.05; kill -CONT $$) & wait $!; exit 3", 3)):
        with checks.case("sleep: woken at its end: " + word):
            for _ in range(10):
                done, _ = asleep(["sh", "-c", word], 16 * MIB, environment=SOON)
                expect(done.status == status, done.describe())
    with checks.case("sleep: another program while it wakes"):
        for _ in range(10):
            done, _ = asleep(["sh", "-c", 'exec "$0" 30', case_program("waking", "-pthread")], 16 * MIB, environment=SOON)
            expect(done.status == 0 and done.text == "wrong 0, with children\n", done.describe())


def check_fast(checks, scale):
    """Programs that touch memory as fast as they can, inside the promise."""
    touch = case_program("touch")
    budget, each, huge = (200 * MIB, "1000", "4000") if scale.full else (64 * MIB, "128", "640")
    for words, processes in (([touch, each, "8"], 8), ([touch, huge, "huge"], 1)):
        with checks.case("sleep: as fast as memory is touched: " + " ".join(words[1:])) as figures:
            done, report = asleep(words, budget, limit=quire.cgroup_limit(budget))
            expect_success(done)
            expect(report["woken"] == processes, "woken %d" % report["woken"])
            figures.append("peak %d MiB of %d" % (done.peak >> 20, quire.cgroup_limit(budget) >> 20))


def check_reserved(checks):
    """Memory that was reserved first counts as well, once it can be written."""
    with checks.case("sleep: reserved addresses that become memory") as figures:
        done, report = asleep([case_program("touch"), "96", "reserved"], 32 * MIB)
        expect_success(done)
        adopted = report["adopted_pages"]
        expect(report["woken"] == 1 and adopted > 1024, "woken %d, %d pages taken over" % (report["woken"], adopted))
        figures.append("peak %d MiB, %d pages taken over" % (done.peak >> 20, adopted))


def check_descendants(checks):
    """quire ends with the last descendant, though none of them has joined; not with one that is outside."""
    for script, least, most in (("sleep 0.5 & exit 3", 0.4, 5), ("env -i sleep 1.5 & exit 3", 0, 1)):
        with checks.case("sleep: descendants are waited for: " + script) as figures:
            done, _ = asleep(["sh", "-c", script], BUDGET)
            expect(done.status == 3 and least <= done.seconds <= most, "after %.1f s: %s" % (done.seconds, done.describe()))
            figures.append("%.2f s" % done.seconds)


def check_forks(checks):
    """The child of a sleeper sleeps as well, and has its memory."""
    with checks.case("sleep: forks before and after waking"):
        native = run([case_program("forks"), "fork", "1", "20", "0"], timeout=60)
        done, _ = asleep([case_program("forks"), "fork", "1", "20", "0"], 16 * MIB)
        expect_same(native, done)


def check_locked(checks):
    """What locks all that it will map can't be managed, and says so."""
    with checks.case("sleep: all memory is locked") as figures:
        done, report = asleep([case_program("touch"), "40", "locked"], 16 * MIB)
        expect(done.status == 0 and "keeps all of its memory locked" in done.stderr, done.describe())
        expect(report["unmanaged_because"].get("locked") == 1, report["unmanaged_because"])
        figures.append("told")


def check_restrained(checks):
    """A sleeper does what only a process of one thread may, and keeps to a filter of its own."""
    for mode, because in (("namespace", {"single": 1}), ("filter", {})):
        with checks.case("sleep: it restrains itself: " + mode):
            native = run([case_program("restrained"), mode], timeout=60)
            done, report = asleep([case_program("restrained"), mode], BUDGET)
            expect_same(native, done)
            expect(report["unmanaged_because"] == because, str(report["unmanaged_because"]))


def check(checks, scale):
    check_fits(checks)
    check_short(checks)
    check_ends(checks)
    check_fast(checks, scale)
    check_reserved(checks)
    check_descendants(checks)
    check_forks(checks)
    check_locked(checks)
    check_restrained(checks)
    check_middle(checks, scale)
