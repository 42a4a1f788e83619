"""The budget is not void without a word: who runs outside it, who passes it, and that the report has all at any end."""

import os
import re
import shutil
import signal
import subprocess

import quire
from cases import TIMEOUT, both, case_program, expect_same
from checks import expect
from runner import MIB, compiled, program, run, scratch
from scale import system_python

ORDER_BYTES = [4096 << order for order in range(10)]
BUDGET = 64 * MIB
ENDS = {"return": 4, "_exit": 3, "kill": -signal.SIGKILL, "fault": -signal.SIGSEGV, "abort": -signal.SIGABRT}


def hello(kind, *flags):
    """The path of tests/programs/cases/hello.c, in one of several builds."""
    return compiled("case-hello-" + kind, [program("cases/hello.c")], flags)


def musl_hello():
    """The same for another libc, or None where there is no compiler for it."""
    if not shutil.which("musl-gcc"):
        return None
    path = hello("static", "-static") + "-musl"
    subprocess.run(["musl-gcc", "-O2", "-o", path, program("cases/hello.c")], check=True)
    return path


def warnings(result, *patterns):
    """The lines of warning; each pattern is in one of them."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("quire: warning:")]
    for pattern in patterns:
        expect(any(re.search(pattern, line) for line in lines), "no warning of %r; %s" % (pattern, result.last_words()))
    return lines


def check_ends(checks, scale):
    """What is counted at the moment of the end is in the report."""
    size = scale.mb(800)
    for budget in (None, size * 2 * MIB):
        for how, status in ENDS.items():
            with checks.case("all is counted: %d MB, %s, %s" % (size, how, "a budget" if budget else "none")) as figures:
                command = [case_program("ends"), str(size), how]
                native, managed, report = both(command, budget)
                expect_same(native, managed)
                expect(managed.status == status, managed.describe())
                filled = sum(count * bytes for count, bytes in zip(report.by_order("fills"), ORDER_BYTES))
                # What was there when it woke.
                filled += report["adopted_pages"] * quire.PAGE
                peak = report["peak_resident_bytes"]
                figures.append("%d MiB filled, peak %d MiB" % (filled // MIB, peak // MIB))
                expect(peak <= size * MIB * 1.1 + 16 * MIB, "the peak is %d MiB" % (peak // MIB))
                if quire.sleeps() and not report["woken"]:
                    # Nothing is counted of what slept all the time; it was measured now and then.
                    expect(filled == 0 and size * MIB / 2 <= peak, "filled are %d MiB" % (filled // MIB))
                    continue
                expect(size * MIB <= filled <= size * MIB * 1.05 + 4 * MIB, "filled are %d MiB" % (filled // MIB))
                expect(size * MIB <= peak, "the peak is %d MiB" % (peak // MIB))
                expect(quire.managed_share(report) > 0.9, "managed are %.3f" % quire.managed_share(report))


def check_over(checks):
    """A tree that passes its budget."""
    with checks.case("forked children that pass the budget are told of at once, and in the first line"):
        result = run(quire.command_line([case_program("workers"), "3", "60"], BUDGET), timeout=TIMEOUT)
        expect(result.status == 0 and result.text == "sum 3\n", result.describe())
        warnings(result, r"the tree uses [\d.]+ MiB, its budget is 64 MiB: 3 forked children have .* MiB")
        first = [line for line in result.stderr.splitlines() if "; budget" in line][0]
        expect(re.search(r"peak [\d.]+ MiB, over the budget", first), first)
    with checks.case("a tree that keeps its budget is not told of"):
        result, report = quire.run_under([case_program("workers"), "1", "30"], BUDGET, timeout=TIMEOUT)
        expect(result.status == 0 and warnings(result) == [], result.describe())
        expect(not report["over_budget"], "over the budget by the report")
    kinds = {
        "raw": "system calls of its own",
        "fixed": "at addresses of its own",
        "bss": r"its \.data and \.bss",
    }
    for kind, words in kinds.items():
        with checks.case("memory that is not managed is told of: " + kind):
            native, managed, report = both([case_program("elsewhere"), "120", kind], BUDGET)
            expect_same(native, managed)
            warnings(managed, r"of its memory \d.* MiB are not managed, most of it .*" + words)
            # Of 120 MiB and what any program has beside them.
            unmanaged = report["peak_unmanaged_bytes"]
            expect(100 * MIB < unmanaged <= 120 * MIB + 4 * MIB, "in the report are %d MiB" % (unmanaged // MIB))
            expect(report["over_budget"], "not in the report")


def check_kinds(checks):
    """Programs that the library does not come into."""
    static, dynamic, other = hello("static", "-static"), hello("dynamic"), musl_hello()
    with checks.case("programs outside are told of once for each cause, and counted"):
        script = '"$1" a; "$1" b; env -i "$2" c; env -u LD_PRELOAD "$2" d; "$2" e; exit 9'
        native, managed, report = both(["sh", "-c", script, "sh", static, dynamic], BUDGET)
        expect_same(native, managed)
        lines = warnings(managed, "static.*leave memory for it", "LD_PRELOAD.*let both through")
        expect(len(lines) == 2, managed.last_words())
        because = report["unmanaged_because"]
        expect(because == {"static": 2, "no_preload": 2} and report["unmanaged"] == 4, str(because))
    for kind, count in (("exec", 20), ("spawn", 2)):
        with checks.case("each way to start a program tells of it: " + kind):
            native, managed, report = both([case_program("execs"), static, kind], BUDGET)
            expect_same(native, managed)
            expect(report["unmanaged_because"] == {"static": count}, str(report["unmanaged_because"]))
    with checks.case("a program started by a system call in assembly is found while it runs"):
        how = {"environment": {"HELLO_MS": "400"}}
        native, managed, report = both([case_program("execs"), static, "raw"], BUDGET, **how)
        expect_same(native, managed)
        warnings(managed, "static")
        expect(report["unmanaged_because"] == {"static": 1}, str(report["unmanaged_because"]))
    with checks.case("the program itself: static"):
        native, managed, report = both([static], BUDGET)
        expect_same(native, managed)
        expect(len(warnings(managed, "static")) == 1 and report["managed"] == 0, managed.last_words())
    with checks.case("a seccomp filter is named as what it is"):
        for sockets in ("sockets", "none"):
            command = [case_program("filtered"), sockets, dynamic, "behind"]
            native, managed, report = both(command, BUDGET)
            expect_same(native, managed)
            expect(len(warnings(managed, "seccomp filter")) == 1, managed.last_words())
            expect(report["unmanaged_because"] == {"seccomp": 1}, str(report["unmanaged_because"]))
    check_other_libc(checks, other)
    check_emulator(checks)


def check_other_libc(checks, other):
    """musl's loader would not start a program with our library."""
    with checks.case("another libc: runs without the library, what it starts is managed") as figures:
        if other is None:
            figures.append("skipped: musl-gcc is not installed")
            return
        # Awake: programs so small do not join otherwise, or end before it is their turn.
        native, managed, report = both([other, "run", "exec %s x" % hello("dynamic")], BUDGET, [quire.AWAKE])
        expect_same(native, managed)
        lines = warnings(managed, "its libc is not glibc")
        expect(len(lines) == 1 and "ld.so" not in managed.stderr, managed.last_words())
        # The child that becomes a shell may be seen before it does. The shell becomes the program: two are managed.
        because = report["unmanaged_because"]
        expect(because.keys() == {"other_libc"} and 1 <= because["other_libc"] <= 2, str(because))
        expect(report["managed"] == 2, str(report["processes"]))


def check_emulator(checks):
    """The library comes into what an emulator runs, too: there it leaves all as it is."""
    with checks.case("an emulator: it is managed, what it runs is left alone") as figures:
        if not shutil.which("qemu-x86_64"):
            figures.append("skipped: qemu-user is not installed")
            return
        for options in ([quire.ASLEEP], []):
            command = ["qemu-x86_64", case_program("workers"), "1", "8"]
            native, managed, report = both(command, BUDGET, options)
            expect_same(native, managed)
            lines = warnings(managed, "an emulator runs it")
            expect(len(lines) == 1 and report["unmanaged"] == 0, managed.last_words())


def check_exclude(checks):
    """Programs that the user wants left alone."""
    heap, dynamic = case_program("heapname"), hello("dynamic")
    shell = ["sh", "-c", '"$1"; "$2"', "sh", heap, dynamic]
    runs = {
        "a name": (["--exclude", "case-heapname"], {}),
        "a pattern": (["--exclude", "nothing", "--exclude", "*-heap[a-z]*"], {}),
        "a path": (["--exclude", os.path.dirname(heap) + "/*heapname"], {}),
        "the environment": ([], {"QUIRE_EXCLUDE": "nothing:case-heap*"}),
    }
    for name, (options, environment) in runs.items():
        with checks.case("--exclude: " + name):
            native, managed, report = both(shell, BUDGET, options, environment=environment)
            expect_same(native, managed)
            expect(report["excluded"] == 1 and report["unmanaged"] == 0, str(report["processes"]))
            expect(warnings(managed) == [], managed.last_words())
    with checks.case("--exclude: the program itself, with its own malloc"):
        native, managed, report = both([heap], BUDGET, ["--exclude", "case-heapname"])
        expect_same(native, managed)
        expect(report["managed"] == 0 and report["excluded"] == 1, str(report["processes"]))
    with checks.case("--exclude: a script by its name, and by its interpreter's"), scratch() as directory:
        path = os.path.join(directory, "job.script")
        with open(path, "w") as file:
            file.write("#!/bin/sh\necho from a script\n")
        os.chmod(path, 0o755)
        for command in ([path], ["sh", path]):
            for pattern in ("job.*", os.path.basename(os.path.realpath("/bin/sh"))):
                native, managed, report = both(command, BUDGET, ["--exclude", pattern])
                expect_same(native, managed)
                expect(report["excluded"] == 1, "%s %s: %s" % (command, pattern, report["processes"]))
    with checks.case("--exclude: no pattern is refused in one line"):
        result = run(quire.command_line(["true"], BUDGET, ["--exclude", "a:b"]), timeout=TIMEOUT)
        expect(result.status == 125 and "--exclude" in result.stderr, result.describe())


def check(checks, scale):
    check_ends(checks, scale)
    check_over(checks)
    check_kinds(checks)
    check_exclude(checks)
