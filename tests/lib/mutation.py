"""Mutants of the engine: their list, a copy of the tree to make them in, and what cargo-mutants says of one."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time

from runner import REPOSITORY, work_directory

# Seconds in which a changed tree has to be built.
BUILD_TIMEOUT = 600

# What makes every run of the tests the same, and short.
SETTINGS = {
    "QUIRE_SEEDS": "2",
    "QUIRE_FUZZ_SECONDS": "1",
    "PROPTEST_RNG_SEED": "1",
    "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "1",
}


SUMMARIES = {"CaughtMutant": "caught", "MissedMutant": "missed", "Timeout": "timeout", "Unviable": "unviable"}


class Stage:
    """Tests of one package that are built and run together."""

    def __init__(self, package, *targets):
        self.package = package
        self.targets = targets

    def arguments(self):
        """What cargo test is told after `-p PACKAGE`."""
        return [word for target in self.targets for word in (["--test", target] if target else ["--lib"])]


# A mutant that one stage misses meets the next: the cheap and sharp ones come first.
STAGES = [
    Stage("quire-core", None),
    Stage(
        *("quire-sim", "cells", "faults", "policies", "regressions", "naive_pager", "vmas", "watermarks", "withdraw"),
        "fuzz_verbs",
    ),
    Stage("quire-sim", "bounded", "reclaim_allocates_nothing"),
    Stage("quire-sim", "compaction", "shaping", "sharing"),
]


class Mutant:
    """One change of one place in the source."""

    def __init__(self, number, entry, lines, earlier):
        # Its place in the list, by which cargo-mutants finds it again: expressions for names let others through.
        self.number = number
        self.name = entry["name"]
        self.file = entry["file"]
        function = entry.get("function") or {"function_name": "", "span": None}
        what, span = function["function_name"], function["span"]
        if span:
            lines = lines[span["start"]["line"] - 1 : span["end"]["line"]]
        # Of the function, so that what is known outlives changes elsewhere.
        self.source = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        change = re.sub(r"^[^ ]*: ", "", self.name)
        # Without the line: a change elsewhere in the file leaves a mutant its number, and so the sample what it is.
        plain = "%s %s %s" % (self.file, what, change)
        earlier[plain] = earlier.get(plain, 0) + 1
        self.key = "%s #%d" % (plain, earlier[plain])

    def rank(self, seed):
        """Where it stands in the order that `seed` draws."""
        return hashlib.sha256(("%d %s" % (seed, self.key)).encode()).digest()


def work():
    """Where the copy of the tree, what is built from it and the results are kept."""
    return os.path.join(work_directory(), "mutants")


def _tree():
    return os.path.join(work(), "tree")


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def copy_tree():
    """Makes the copy equal to the repository, and returns a digest of it. Equal files keep their time."""
    listing = ["git", "-C", REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
    names = sorted(name for name in names if name and os.path.isfile(os.path.join(REPOSITORY, name)))
    digest = hashlib.sha256()
    for name in names:
        content, target = _read(os.path.join(REPOSITORY, name)), os.path.join(_tree(), name)
        if name.startswith(("crates/core/", "crates/sim/", "tests/lib/mutation", "Cargo", ".cargo/")):
            digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        if not os.path.isfile(target) or _read(target) != content:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.join(REPOSITORY, name), target)
    _remove_others(set(names))
    return digest.hexdigest()


def _remove_others(names):
    for directory, _, files in os.walk(_tree()):
        for file in files:
            path = os.path.join(directory, file)
            if os.path.relpath(path, _tree()) not in names:
                os.remove(path)


def mutants():
    """Every mutant of the engine's folders, in the order of the source."""
    entries = json.loads(_cargo_mutants("--list", "--json", "--no-shuffle").stdout)
    files = {entry["file"] for entry in entries}
    lines = {name: _read(os.path.join(_tree(), name)).decode().splitlines() for name in files}
    earlier = {}
    return [Mutant(number, entry, lines[entry["file"]], earlier) for number, entry in enumerate(entries)]


def _environment():
    return {**os.environ, **SETTINGS, "CARGO_TARGET_DIR": os.path.join(work(), "target")}


def _cargo_mutants(*arguments):
    return subprocess.run(["cargo", "mutants", *arguments], env=_environment(), cwd=_tree(), capture_output=True, text=True)


def baseline(stage):
    """Seconds that the tests of `stage` take where nothing is changed; they have to pass."""
    command = ["cargo", "test", "--profile", "mutants", "-p", stage.package, *stage.arguments()]
    subprocess.run([*command, "--quiet", "--no-run"], env=_environment(), cwd=_tree(), check=True)
    start = time.monotonic()
    done = subprocess.run(command, env=_environment(), cwd=_tree(), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit("the tests fail on the unchanged tree:\n" + done.stdout + done.stderr)
    return time.monotonic() - start


def verdict(mutant, count, stage, timeout):
    """What the tests of `stage` say of `mutant`, one of `count`: `caught`, `missed`, `timeout` or `unviable`."""
    output = os.path.join(work(), "mutants.out")
    shutil.rmtree(output, ignore_errors=True)
    done = _cargo_mutants(
        *["--in-place", "--baseline", "skip", "--output", work(), "--shard", "%d/%d" % (mutant.number, count)],
        *["--no-shuffle", "--sharding", "round-robin", "--timeout", str(timeout), "--build-timeout", str(BUILD_TIMEOUT)],
        *["--test-package", stage.package, *["--cargo-arg=" + word for word in stage.arguments()]],
    )
    try:
        outcomes = json.loads(_read(os.path.join(output, "outcomes.json")))["outcomes"]
        (outcome,) = [one for one in outcomes if one["scenario"] != "Baseline"]
        if outcome["scenario"]["Mutant"]["name"] != mutant.name:
            raise ValueError(outcome["scenario"])
        return SUMMARIES[outcome["summary"]]
    except (OSError, ValueError, KeyError):
        raise SystemExit("cargo mutants failed on %s:\n%s%s" % (mutant.name, done.stdout, done.stderr)) from None
