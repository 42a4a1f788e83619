"""The differential of calls in the small: the same call with the same arguments on the kernel's memory and on ours.

One process does both, tests/programs/cases/differential: memory that it maps in assembly is the kernel's under Quire too.
Natively both are the kernel's, and nothing may differ: that shows that the program itself is right."""

import glob

import quire
from cases import TIMEOUT, case_program, same_as_native
from checks import expect
from runner import compiled, expect_success, program, run


def differential():
    """The path of the program."""
    sources = sorted(glob.glob(program("cases/differential/*.[ch]"))) + [program("cases/case.h")]
    return compiled("case-differential", sources)


def check(checks, scale):
    same_as_native(checks, "handlers of SIGSEGV", [case_program("segv")])
    with checks.case("what a handler is told of a touch, page by page") as figures:
        command = [differential(), "faults"]
        native = run(command, timeout=TIMEOUT)
        managed, _ = quire.run_under(command, timeout=TIMEOUT)
        for result in (native, managed):
            expect_success(result)
            lines = result.text.splitlines()
            expect(len(lines) == 1, "%d differ, first: %s" % (len(lines) - 1, lines[0]))
        figures.append(native.text.strip())
