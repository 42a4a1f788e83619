"""The counters of a report, counted once more: from the decisions that `quire run --log` wrote, and from each other."""

import collections
import re

from checks import expect
from quire import ORDERS, PAGE, pages_of

LINE = re.compile(r"^ *\d+\.\d+ +(\d+) (no frame|no run|\w+) +(.*)$")
# What a decision's text says, by its kind: places are a space and a page.
FAULT = re.compile(r"^\S+ \S+ (empty|stored), wanted (\w+), got (\w+)(?:: (\w+))?$")
FOLIO = re.compile(r"^\S+ (\S+) (\w+)(?:, (\d+) pages (?:out|elsewhere|given back))?(?:: (\w+))?$")
# Names in the log, and in the report.
CASES = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Recount:
    """What a log says, for each process and all together."""

    def __init__(self, path):
        self.lost = 0
        self.by_process = collections.defaultdict(collections.Counter)
        # Runs that were collapsed while they were one folio already.
        self.twice = []
        self._whole = set()
        with open(path) as file:
            for number, line in enumerate(file, 1):
                match = LINE.match(line.rstrip("\n"))
                expect(match, "line %d of the log can't be read: %r" % (number, line))
                self._take(int(match[1]), match[2], match[3])

    def _take(self, pid, kind, rest):
        counts = self.by_process[pid]
        if kind == "lost":
            self.lost += int(rest.split()[0])
        elif kind == "fault":
            fault = FAULT.match(rest)
            expect(fault, "a fault that can't be read: %r" % rest)
            counts["fills" if fault[1] == "empty" else "swap_ins", fault[3]] += 1
            if fault[4]:
                counts["shortfalls", _name(fault[4])] += 1
        elif kind == "refused":
            counts["refusals", _name(rest)] += 1
        elif kind in ("rescue", "evict", "split", "collapse", "compact", "sparse"):
            folio = FOLIO.match(rest)
            expect(folio, "a decision that can't be read: %s %r" % (kind, rest))
            counts[kind, folio[2]] += 1
            counts[kind + " pages"] += int(folio[3] or 0)
            if kind == "split":
                counts["splits", _name(folio[4])] += 1
            self._follow(pid, kind, folio[1], folio[2])

    def _follow(self, pid, kind, page, order):
        """A run that was collapsed is one folio until it leaves memory or is split."""
        run = (pid, page, order)
        if kind == "collapse":
            if run in self._whole:
                self.twice.append(run)
            self._whole.add(run)
        elif kind in ("evict", "split"):
            self._whole.discard(run)

    def total(self, *key):
        """A count of all processes together."""
        key = key if len(key) > 1 else key[0]
        return sum(counts[key] for counts in self.by_process.values())

    def orders(self, name):
        """By order, from the smallest up."""
        return [self.total(name, order) for order in ORDERS]

    def filled(self):
        """Pages filled with zeroes, of each process."""
        return [sum(counts["fills", size] << order for order, size in enumerate(ORDERS)) for counts in self.by_process.values()]

    def reasons(self, name):
        """By reason, those that occurred."""
        found = collections.Counter()
        for counts in self.by_process.values():
            found.update({key[1]: count for key, count in counts.items() if key[0] == name})
        return {reason: count for reason, count in found.items() if count}


def _name(words):
    """`NoRun` as `no_run`."""
    return CASES.sub("_", words).lower()


def expect_counted(report, path):
    """The report counts exactly what the log says. Nobody waits for the log: what came faster than it could be written is missing
    in it, and its number is known. Returns the Recount."""
    log = Recount(path)
    pairs = {
        "fills": (log.orders("fills"), report.by_order("fills")),
        "swap_ins": (log.orders("swap_ins"), report.by_order("swap_ins")),
        "rescues": (log.orders("rescue"), report.by_order("rescues")),
        "collapses": (log.orders("collapse"), report.by_order("collapses")),
        "splits": ([sum(log.orders("split"))], [report["splits"]]),
        "shortfalls": (log.reasons("shortfalls"), report["shortfalls"]),
        "refusals": (log.reasons("refusals"), report["refusals"]),
        "sparse": ([sum(log.orders("sparse"))], [report["sparse"]]),
        "given back": ([log.total("sparse pages")], [report["sparse_given_back_bytes"] // PAGE]),
        "pages moved out": ([log.total("evict pages")], [pages_of(report, "evictions")]),
    }
    for name, (decided, counted) in pairs.items():
        fits = decided == counted if log.lost == 0 else _fits(decided, counted, log.lost)
        expect(fits, "%s: the log has %s and lost %d, the report %s" % (name, decided, log.lost, counted))
    expect(log.lost or not log.twice, "collapsed again while they were whole: %s" % log.twice[:5])
    return log


def _fits(decided, counted, lost):
    """Whether what is missing in the log can be among the lost decisions, each of which is of 512 pages at the most."""
    if isinstance(counted, dict):
        decided, counted = [decided.get(name, 0) for name in counted], list(counted.values())
    return all(0 <= more - some <= lost * 512 for some, more in zip(decided, counted))


def expect_sums(report):
    """What the report says in two ways is the same."""
    tree = report.tree
    memory, faults, eviction = tree["memory"], tree["faults"], tree["eviction"]
    behind, in_fault = eviction["evicted_behind_pages"], eviction["evicted_in_fault_pages"]
    sums = {
        "pages moved out": (behind + in_fault, pages_of(report, "evictions")),
        "resident": (memory["peak_managed_bytes"] + memory["peak_unmanaged_bytes"], memory["peak_resident_bytes"]),
        "compressed": (eviction["stored_pages"] * PAGE, eviction["compressed_in_bytes"]),
        "unmanaged": (sum(tree["processes"]["unmanaged_because"].values()), tree["processes"]["unmanaged"]),
    }
    answered = sum(sum(report.by_order(name)) for name in ("fills", "swap_ins", "rescues"))
    answered += faults["late"] + faults["joined"]
    sums["faults"] = (answered, faults["count"])
    for name, (parts, whole) in sums.items():
        expect(parts == whole, "%s: the parts are %s, the whole %s" % (name, parts, whole))
    waits, longest, waited = faults["waits"], faults["wait_max_ns"], faults["wait_ns"]
    expect(longest <= waited <= waits * longest, "%d waits of %d ns, at most %d" % (waits, waited, longest))
    expect((faults["p50_ns"] or 0) <= (faults["p99_ns"] or 0), "more than half of the faults beyond 99 %")
