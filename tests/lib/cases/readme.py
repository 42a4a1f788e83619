"""The first screen of README: what it shows is what happens, and what people are told to type works."""

import os
import re
import shlex

import quire
from cases import TIMEOUT
from checks import expect
from runner import MIB, REPOSITORY, run

# Of the example's cgroup.
LIMIT = 128 * MIB
# A number with a unit, or a count: it differs from run to run.
FIGURE = re.compile(r"[\d.]+( [KMG]iB| (ms|s|us)\b)?")


def readme():
    with open(os.path.join(REPOSITORY, "README.md")) as file:
        return file.read()


def example():
    """The commands of the example, each with the lines that follow it."""
    block = readme().split("<!-- example: begin -->")[1].split("<!-- example: end -->")[0].strip().strip("`").strip()
    expect(len(block.splitlines()) <= 25, "the example has %d lines" % len(block.splitlines()))
    commands = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        else:
            commands[-1][1].append(line)
    return [(command, lines) for command, lines in commands if not command.startswith("#")]


def shape(line):
    return FIGURE.sub("N", line)


def check_example(checks):
    with checks.case("README: the program is killed in its cgroup, and runs in it under quire") as figures:
        (natively, killed), (under, shown) = example()
        expect(killed == ["Killed"] and under == "quire run -- " + natively, "the example is another one")
        result = run(shlex.split(natively), limit=LIMIT, timeout=TIMEOUT)
        expect(result.was_killed(), "it is not killed; " + result.describe())
        words = [quire.binary(), *shlex.split(under)[1:]]
        result = run(words, limit=LIMIT, timeout=TIMEOUT)
        expect(result.status == 0, result.describe())
        expect(result.text.splitlines() == shown[:1], "the output is %r" % result.text)
        said = result.stderr.splitlines()
        expect([shape(line) for line in said] == [shape(line) for line in shown[1:]], "the report is %s" % said)
        figures.append(said[0])


def indented(begin):
    """The one line of code that begins so."""
    found = [line.strip() for line in readme().splitlines() if line.startswith("    " + begin)]
    expect(len(found) == 1, "README has %d lines %s" % (len(found), begin))
    return found[0]


def first_command():
    return indented("cargo run --release -- ")


def second_command():
    return indented("tests/run small")


def check_first_command(checks):
    with checks.case("README: the first command that people are told to type"):
        result = run([quire.binary(), *shlex.split(first_command())[4:]], timeout=TIMEOUT)
        expect(result.status == 0 and result.text == "2000000\n", result.describe() + result.text)
        expect(re.search(r"moved out \d", result.stderr), "it fits into its budget: " + result.stderr)


def check(checks, scale):
    check_example(checks)
    check_first_command(checks)
