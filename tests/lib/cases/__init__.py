"""What the checks of `tests/cases` share: a program of tests/programs/cases, run natively and under Quire."""

import pkgutil
import time

import quire
from checks import expect
from runner import compiled, program, run

TIMEOUT = 60


def groups():
    """The names of the files here, each a kind of checks."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def case_program(name, *flags):
    """The path of tests/programs/cases/NAME.c, compiled; `flags` are further arguments of the compiler."""
    sources = [program("cases/%s.c" % name), program("cases/case.h")]
    return compiled("case-" + name, sources, flags)


def both(command, budget=None, options=(), timeout=TIMEOUT, check=True, **how):
    """Runs a command natively and under Quire, which checks its tables (`check`). Returns both Results and the Report, which may be
    None."""
    native = run(command, timeout=timeout, **how)
    expect(not native.timed_out, "natively: " + native.describe())
    managed, report = quire.run_under(command, budget, options, check=check, timeout=timeout, **how)
    return native, managed, report


def expect_same(native, managed):
    """The same output and the same end."""
    expect(not managed.timed_out, managed.describe())
    expect(managed.status == native.status, "natively status %d; %s" % (native.status, managed.describe()))
    if managed.digest != native.digest:
        expect(False, "stdout differs: %s; %s" % (first_difference(native.text, managed.text), managed.last_words()))


def wait_until(holds, what):
    until = time.monotonic() + TIMEOUT
    while not holds():
        expect(time.monotonic() < until, "not so after %d s: %s" % (TIMEOUT, what))
        time.sleep(0.02)


def first_difference(native, managed):
    """The first line that differs, of both."""
    ours, theirs = managed.splitlines(), native.splitlines()
    for number in range(max(len(ours), len(theirs))):
        pair = [lines[number] if number < len(lines) else "(nothing)" for lines in (theirs, ours)]
        if pair[0] != pair[1]:
            return "line %d is %r natively and %r under Quire" % (number + 1, *pair)
    return "beyond what is kept of it"


def same_as_native(checks, name, command, budget=None, options=(), **how):
    """The check that a command does under Quire what it does natively. Returns the Report, or None."""
    report = None
    with checks.case(name) as figures:
        native, managed, report = both(command, budget, options, **how)
        expect_same(native, managed)
        figures.append("natively %.1f s, under Quire %.1f s" % (native.seconds, managed.seconds))
    return report


