"""The differential of calls in the small: the same call with the same arguments on the kernel's memory and on ours. For
sequences of calls: walks.py.

One process does both, tests/programs/cases/differential: memory that it maps in assembly is the kernel's under Quire too.
Natively both are the kernel's, and nothing may differ: that shows that the program itself is right. What differs under
Quire is listed here, each with its reason, and an entry that no longer differs fails too."""

import collections
import glob
import re

import quire
from cases import TIMEOUT, case_program, same_as_native
from checks import expect
from runner import MIB, compiled, expect_success, program, run

# Of so many sets one is tried, unless all are asked for.
SHARE = 32
# Under pressure, where each set takes longer.
PRESSED_SHARE = 160
BUDGET = 32 * MIB
PRESSURE = 64

# Sets whose name matches `pattern` may differ. `example` is one that does.
Allowed = collections.namedtuple("Allowed", "pattern example reason")
ALLOWED = [
    Allowed(
        r"madvise\(.*,0x6[67]\)",
        "plain: madvise(base+0x0,0x10000,0x66)",
        "guards: an entry in the page tables that no move gets past; refused as by a kernel without them",
    ),
    Allowed(
        r"^locked(-part)?: mremap\(.*,0x[57],",
        "locked: mremap(base+0x5000,0x6000,0x6000,0x5,0x0)",
        "MREMAP_DONTUNMAP of a part of a locked mapping unlocks all of it: the kernel's mistake, which is not copied",
    ),
    Allowed(
        r"^file-last: mremap\(base\+0xf000,0x1000,0x[0-9a-f]+000,0x[01],0x0\)",
        "file-last: mremap(base+0xf000,0x1000,0x3000,0x0,0x0)",
        "a mapping of the kernel's in the arena has the arena behind it: it does not grow where it is",
    ),
]


def differential():
    """The path of the program."""
    sources = sorted(glob.glob(program("cases/differential/*.[ch]"))) + [program("cases/case.h")]
    return compiled("case-differential", sources)


class Outcome:
    """What a run printed: the sets that differ, each with what the kernel did and what we did, and how many were tried."""

    def __init__(self, result):
        expect_success(result)
        lines = result.text.splitlines()
        self.differ = [line.split("\t") for line in lines[:-1]]
        self.tried = lines[-1]

    def expect_none(self, differ):
        where = differ[0] if differ else []
        told = "%s; the kernel: %s; ours: %s" % tuple(where) if len(where) == 3 else "; ".join(where)
        expect(not differ, "%d differ, first: %s" % (len(differ), told))


def natively(arguments, timeout):
    return Outcome(run([differential(), *arguments], timeout=timeout))


def managed(arguments, timeout, budget=None, options=()):
    return Outcome(quire.run_under([differential(), *arguments], budget, options, timeout=timeout)[0])


def not_allowed(differ):
    return [found for found in differ if not any(re.search(entry.pattern, found[0]) for entry in ALLOWED)]


def compare(checks, name, arguments, timeout, **how):
    """The check that no set differs natively, and none under Quire but those that may."""
    with checks.case(name) as figures:
        alone = natively(arguments, timeout)
        alone.expect_none(alone.differ)
        ours = managed(arguments, timeout, **how)
        ours.expect_none(not_allowed(ours.differ))
        expect(ours.tried == alone.tried, "natively %s, under Quire %s" % (alone.tried, ours.tried))
        figures.append("%s, %d differ as listed" % (ours.tried, len(ours.differ)))


def list_is_true(checks):
    """Each entry of the list still differs."""
    with checks.case("what is listed differs") as figures:
        for entry in ALLOWED:
            expect(re.search(entry.pattern, entry.example), "%s does not match its example" % entry.pattern)
            # Awake: while a program sleeps the kernel does it, mistakes and all.
            found = managed(["sets", "libc", "1", "0", "1", entry.example], TIMEOUT, options=[*PAGES, quire.AWAKE])
            expect(len(found.differ) > 0, "%s no longer differs: %s" % (entry.example, entry.reason))
        figures.append("%d entries" % len(ALLOWED))


# So that what is resident is what was touched, page by page.
PAGES = ["--policy", "fixed:4K"]


def check(checks, scale):
    share, pressed, timeout = (1, 1, 1800) if scale.full else (SHARE, PRESSED_SHARE, 300)
    compare(checks, "by libc's functions", ["sets", "libc", "1", "0", str(share)], timeout, options=PAGES)
    compare(checks, "by number", ["sets", "number", "1", "0", str(share)], timeout, options=PAGES)
    compare(
        checks,
        "after pressure",
        ["sets", "libc", "0", str(PRESSURE), str(pressed)],
        timeout,
        budget=BUDGET,
    )
    list_is_true(checks)
    compare(checks, "what a handler is told of a touch", ["faults"], timeout)
    same_as_native(checks, "handlers of SIGSEGV", [case_program("segv")])
    same_as_native(checks, "process_madvise", [case_program("vectors")])
    same_as_native(checks, "process_madvise after pressure", [case_program("vectors"), str(PRESSURE)], BUDGET)
