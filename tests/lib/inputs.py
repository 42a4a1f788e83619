"""Inputs fixed by a seed, generated once and kept in the work directory."""

import os
import random

from runner import REPOSITORY, work_directory

SEED = 20240

# Part of the file names: change it when a generator changes.
VERSION = 1

CONSONANTS, VOWELS = "bcdfghklmnprstvz", "aeiou"


def _kept(name, write):
    """The path of the input `name`, which `write(file)` makes where it does not exist yet."""
    path = os.path.join(work_directory(), "v%d-seed%d-%s" % (VERSION, SEED, name))
    if not os.path.exists(path):
        fresh = "%s.%d" % (path, os.getpid())
        with open(fresh, "w") as file:
            write(file)
        os.rename(fresh, path)
    return path


# Most hex digits in a line of `random_lines`, less six.
DIGITS = 30


def random_lines(megabytes, digits=DIGITS):
    """Lines in no order: a hex number of varying length, then named fields, as in a log. They compress a little."""
    name = "lines-%d-of-%d" % (megabytes, digits)
    return _kept(name, lambda file: _write_lines(file, megabytes * 1_000_000, digits))


def _write_lines(file, size, most):
    rng = random.Random(SEED)
    words = ["".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(n % 4 + 1)) for n in range(4096)]
    while size > 0:
        digits = rng.randbytes(1 << 15).hex()
        lines, at = [], 0
        while at < len(digits):
            length = 6 + int(rng.random() * most)
            number, word = rng.getrandbits(30), words[int(rng.random() * 4096)]
            fields = (digits[at : at + length], number, word, words[number % 4096])
            lines.append("%s rank=%d name=%s group=%s\n" % fields)
            at += length
        text = "".join(lines)
        file.write(text[:size] if size >= len(text) else text[:size].rsplit("\n", 1)[0] + "\n")
        size -= len(text)


# A row takes about this many bytes in the table and the index.
BYTES_PER_ROW = 680

# What `quire bench` runs too.
SQL = os.path.join(REPOSITORY, "crates/quire/src/bench/workload/scripts/rows.sql")


def sqlite_script(megabytes):
    """SQL that fills an in-memory database with rows of about that size, then looks up, changes and reads them."""
    rows = megabytes * 1_000_000 // BYTES_PER_ROW
    rng = random.Random(SEED)
    filler = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(150))
    with open(SQL) as file:
        text = file.read()
    text = text.format(seed=SEED, rows=rows, lookups=rows // 8, half=rows // 2, filler=filler)
    return _kept("rows-%d.sql" % megabytes, lambda file: file.write(text))
