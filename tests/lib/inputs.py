"""Inputs fixed by a seed, generated once and kept in the work directory."""

import os
import random

from runner import work_directory

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

SQL = """
PRAGMA temp_store = MEMORY;
CREATE TABLE item(id INTEGER PRIMARY KEY, key INTEGER, name TEXT, note TEXT, price REAL);
WITH RECURSIVE step(i, x) AS (
    SELECT 1, {seed}
    UNION ALL SELECT i + 1, (x * 1103515245 + 12345) % 2147483648 FROM step WHERE i < {rows}
)
INSERT INTO item SELECT i, (x * 48271) % 2147483647, printf('%08x-%08x-%08x', x, x * 69069 % 4294967296, i * 7919),
    printf('%x%x%x%x', x * 16807, x * 65539, x * 40692, x * 950706376) || substr('{filler}', 1, 180 + x % 120),
    x / 97.0 FROM step;
CREATE INDEX item_key ON item(key);
SELECT count(*), sum(key), sum(length(note)) FROM item;
WITH RECURSIVE step(i, x) AS (
    SELECT 1, {seed} + 5
    UNION ALL SELECT i + 1, (x * 1103515245 + 12345) % 2147483648 FROM step WHERE i < {lookups}
)
SELECT sum(price), sum(length(name)), max(name) FROM step JOIN item ON item.id = step.x % {rows} + 1;
UPDATE item SET note = substr(note, 9) || name WHERE key % 17 = 3;
DELETE FROM item WHERE key % 23 = 5;
SELECT name, price FROM item ORDER BY key LIMIT 5 OFFSET {half};
SELECT key % 100 AS bucket, count(*), sum(length(note)), total(price) FROM item GROUP BY bucket ORDER BY bucket;
SELECT sum(unicode(substr(note, 1 + id % 60, 1))) FROM item;
"""


def sqlite_script(megabytes):
    """SQL that fills an in-memory database with rows of about that size, then looks up, changes and reads them."""
    rows = megabytes * 1_000_000 // BYTES_PER_ROW
    rng = random.Random(SEED)
    filler = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(150))
    text = SQL.format(seed=SEED, rows=rows, lookups=rows // 8, half=rows // 2, filler=filler)
    return _kept("rows-%d.sql" % megabytes, lambda file: file.write(text))
