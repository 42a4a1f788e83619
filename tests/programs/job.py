#!/usr/bin/env python3
"""A Python job of a chosen size: lists, dicts, bytearrays, threads and subprocesses, with a digest of it all.

The digest depends on the size and the seed alone, not on how threads interleave, so that a run under Quire and
a native run can be compared. Visiting orders are shuffled: nothing here is friendly to a pager.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import threading
import zlib

WORKERS = 3
WORDS = [b"folio", b"order", b"frame", b"extent", b"standby", b"refault", b"watermark", b"quire"]

# What one item of each kind costs in anonymous memory, in bytes; measured with CPython 3.11.
BYTES_PER_RECORD = 440
BYTES_PER_LIST_ROW = 1300


def chunk_of(rng, size):
    """`size` bytes, between a third and wholly incompressible."""
    noise = rng.randbytes(size // rng.choice((1, 2, 3)))
    filler = rng.choice(WORDS) * (size // 5 + 1)
    return bytearray(noise + filler[: size - len(noise)])


def build_arrays(rng, total):
    """Bytearrays of 1 to 64 KiB."""
    arrays = []
    while total > 0:
        size = 1 << rng.randrange(10, 17)
        arrays.append(chunk_of(rng, size))
        total -= size
    return arrays


def build_table(rng, total):
    """A dict of small records under random keys."""
    count = total // BYTES_PER_RECORD
    return {
        rng.getrandbits(60): {"name": "item-%x" % rng.getrandbits(40), "rank": rng.random(), "tags": [n, -n]}
        if n % 4 == 0
        else "%032x" % rng.getrandbits(128) * 4
        for n in range(count)
    }


def build_rows(rng, total):
    """Lists of large integers and floats."""
    count = total // BYTES_PER_LIST_ROW
    return [[rng.getrandbits(62) for _ in range(20)] + [rng.random() for _ in range(10)] for _ in range(count)]


def visit_arrays(rng, arrays):
    """Two passes in shuffled orders, the first of which changes what it sees."""
    checksum = 0
    for order in (rng.sample(range(len(arrays)), len(arrays)) for _ in range(2)):
        for i in order:
            data = arrays[i]
            data[rng.randrange(len(data))] ^= 0x5A
            checksum = zlib.crc32(data, checksum)
    return checksum


def visit_table(rng, table):
    """Looks up a shuffled part of the keys, replaces some values, then goes through all of it."""
    keys = list(table)
    checksum = 0
    for key in rng.sample(keys, len(keys) // 8):
        value = table[key]
        checksum = zlib.crc32(repr(value).encode(), checksum)
        if key % 5 == 0:
            table[key] = "%x" % (key ^ checksum)
    return checksum + sum(len(value) for value in table.values())


def visit_rows(rng, rows):
    """Sorts the rows and folds a shuffled part of them."""
    rows.sort(key=lambda row: row[3])
    total = 0
    for row in rng.sample(rows, len(rows) // 3):
        total = (total * 31 + row[7] + int(row[25] * 1e9)) & (1 << 61) - 1
    return total


KINDS = ((build_arrays, visit_arrays), (build_table, visit_table), (build_rows, visit_rows))


class Worker(threading.Thread):
    """Builds and visits its share of all three kinds, and keeps them until the end."""

    def __init__(self, seed, total):
        super().__init__()
        self.rng = random.Random(seed)
        self.total = total
        self.kept = []
        self.findings = []

    def run(self):
        for build, _ in KINDS:
            self.kept.append(build(self.rng, self.total // len(KINDS)))
        for (_, visit), data in zip(KINDS, self.kept):
            self.findings.append(visit(self.rng, data))


def through(command, data):
    """What `command` prints when it reads `data`."""
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def ask_children(worker, depth):
    """Pipes some of the worker's arrays through other programs, and runs a small copy of this job."""
    sample = b"".join(worker.kept[0][:8])
    echoed = through(["/bin/cat"], sample)
    assert echoed == sample, "cat changed what it was given"
    answers = [through(["sh", "-c", "cksum; echo $(echo shell)"], sample)]
    if depth > 0:
        small = [sys.executable, __file__, "--mb", "8", "--depth", str(depth - 1)]
        answers.append(through(small, b""))
    return answers


def ask_children_while_running(workers, depth):
    """Joins the workers one by one; children run while the others are still at work."""
    answers = []
    for worker in workers:
        worker.join()
        answers.append(ask_children(worker, depth))
    return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=600, help="peak anonymous memory, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--depth", type=int, default=1, help="how deep the job calls itself")
    options = parser.parse_args()

    share = options.mb * 1_000_000 // WORKERS
    workers = [Worker(options.seed * 100 + i, share) for i in range(WORKERS)]
    for worker in workers:
        worker.start()
    answers = ask_children_while_running(workers, options.depth)
    digest = hashlib.sha256()
    for worker, answer in zip(workers, answers):
        digest.update(repr((worker.findings, answer)).encode())
    print("job: %d MB, seed %d, digest %s" % (options.mb, options.seed, digest.hexdigest()[:32]))


if __name__ == "__main__":
    main()
