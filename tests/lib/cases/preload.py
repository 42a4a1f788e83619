"""The C programs of the preload library, each natively, under Quire, and under pressure: the same output and the same end.
And each symbol that the library takes over is called by one of them."""

import glob
import os
import re

import quire
from cases.three_ways import TIMEOUT, ballasted, three_ways
from checks import expect
from runner import REPOSITORY, compiled, run, scratch

SOURCES = os.path.join(REPOSITORY, "crates", "preload", "tests", "c")

# Of each program the arguments with which it takes less time.
PROGRAMS = {"calls": [], "family": ["few"], "forks": ["few"], "keeps_own": [], "symbols": []}


def preload_program(name):
    """One of them; `keeps_own` with the malloc that it brings."""
    path = os.path.join(SOURCES, name + ".c")
    more = ["-Wno-error"]
    if name == "keeps_own":
        own = compiled("libown.so", [os.path.join(SOURCES, "own.c")], ["-shared", "-fPIC"])
        more += [own, "-Wl,-rpath," + os.path.dirname(own)]
    return ballasted("preload-" + name, path, *more)


def all_are_run(checks):
    with checks.case("preload's programs: each is run"):
        names = {os.path.basename(path)[:-2] for path in glob.glob(os.path.join(SOURCES, "*.c"))} - {"own"}
        expect(names == set(PROGRAMS), "there are %s" % sorted(names))


def all_are_called(checks):
    """Each symbol that the library exports is called by name."""
    with checks.case("preload's programs: each interposed symbol is called") as figures:
        with scratch() as directory:
            listed = run(["nm", "-D", "--defined-only", quire.library(directory)], timeout=TIMEOUT).text
        names = {line.split()[-1] for line in listed.splitlines()}
        with open(os.path.join(SOURCES, "symbols.c")) as file:
            words = set(re.findall(r"\w+", file.read()))
        expect(len(names) > 40 and names <= words, "not called: %s" % sorted(names - words))
        figures.append("%d symbols" % len(names))


def check(checks, scale):
    all_are_run(checks)
    all_are_called(checks)
    for name, words in PROGRAMS.items():
        three_ways(checks, "preload's " + name, [preload_program(name), *([] if scale.full else words)])
