"""Mutants of each crate: their list, by cargo-mutants, and which tests have to notice them."""

import hashlib
import json
import re
import subprocess

from patched import MISSED, Check, read

# Real programs under this build, in less than half a minute.
LIVE = "tests/quick"


class Crate:
    """A crate, the share of its mutants that have to be caught, and by what: a mutant that one check misses meets the
    next, so the cheap and sharp ones come first."""

    def __init__(self, name, package, least_percent, *checks):
        self.name = name
        self.package = package
        self.least_percent = least_percent
        self.checks = [Check(text) for text in checks]


SIM = "cargo test -p quire-sim "
CRATES = [
    Crate(
        *("core", "quire-core", 97),
        "cargo test -p quire-core --lib",
        SIM + "--test cells --test faults --test policies --test regressions --test naive_pager --test vmas"
        " --test watermarks --test withdraw --test fuzz_verbs",
        SIM + "--test bounded --test reclaim_allocates_nothing",
        SIM + "--test compaction --test shaping --test sharing",
        SIM + "--test walks",
    ),
    Crate(
        *("sim", "quire-sim", 85),
        SIM + "--lib --bins",
        SIM + "--test cells --test faults --test regressions --test naive_pager --test watermarks --test fuzz_readers"
        " --test fuzz_verbs",
        SIM + "--test differential --test walks",
        SIM + "--test grid --test policies --test search QUIRE_DEPTH=5",
    ),
    Crate(
        *("linux", "quire-linux", 85),
        "cargo test -p quire-linux --lib",
        "cargo test -p quire-linux --test mmu_live --test pager_live",
        LIVE,
    ),
    Crate(
        *("preload", "quire-preload", 85),
        "cargo test -p quire-preload --test decide --test heap",
        LIVE,
    ),
    Crate(
        *("quire", "quire-mm", 85),
        "cargo test -p quire-mm",
        LIVE,
    ),
]


def crate(name):
    """The crate of that name."""
    return next(one for one in CRATES if one.name == name)


class Mutant:
    """One change of one place in the source."""

    def __init__(self, entry, lines, earlier):
        self.name = entry["name"]
        self.file = entry["file"]
        self.diff = entry["diff"]
        function = entry.get("function") or {"function_name": "", "span": None}
        what, span = function["function_name"], function["span"]
        if span:
            lines = lines[span["start"]["line"] - 1 : span["end"]["line"]]
        # Of the function, so that what is known outlives changes elsewhere.
        self.source = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        change = re.sub(r"^[^ ]*: ", "", self.name)
        # Without the line: a change elsewhere in the file leaves a mutant its key, and so the sample what it is.
        plain = "%s %s %s" % (self.file, what, change)
        earlier[plain] = earlier.get(plain, 0) + 1
        self.key = "%s #%d" % (plain, earlier[plain])

    def rank(self, seed):
        """Where it stands in the order that `seed` draws."""
        return hashlib.sha256(("%s %s" % (seed, self.key)).encode()).digest()


def mutants(tree, of):
    """Every mutant of a crate in the copy `tree`."""
    command = ["cargo", "mutants", "--list", "--json", "--diff", "-p", of.package]
    done = subprocess.run(command, cwd=tree.root, env=tree.environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit("cargo mutants --list failed:\n" + done.stderr)
    entries = json.loads(done.stdout)
    lines = {name: read(tree.path(name)).decode().splitlines() for name in {entry["file"] for entry in entries}}
    earlier = {}
    return [Mutant(entry, lines[entry["file"]], earlier) for entry in entries]


def build(tree, crates):
    """Builds what the checks of `crates` run."""
    for check in [check for one in crates for check in one.checks]:
        problem = tree.build(check)
        if problem:
            raise SystemExit("%s does not build:\n%s" % (check.text, problem))


def baseline(tree, check):
    """Seconds that a check takes where nothing is changed; it has to pass."""
    problem = tree.build(check)
    outcome = None if problem else tree.run(check, 1200)
    if problem or outcome.status != 0 or outcome.timed_out:
        raise SystemExit("%s fails on the unchanged tree:\n%s" % (check.text, problem or outcome.output))
    return outcome.seconds


def judge(tree, mutant, of, timeout_of):
    """What the checks of its crate say of a mutant: the verdict of the first that does not miss it, and which it was.
    `timeout_of(check)` says how many seconds a check may take; it finds `tree` unchanged."""
    for check in of.checks:
        timeout = timeout_of(check)
        problem = tree.apply(mutant.diff, mutant.file)
        try:
            if problem:
                raise SystemExit("%s does not apply: %s" % (mutant.name, problem))
            verdict, output = tree.verdict(check, timeout)
        finally:
            tree.restore(mutant.file)
        if verdict != MISSED:
            return verdict, check.text, output
    return MISSED, None, ""
