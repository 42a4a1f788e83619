"""Reads traces in Quire's format, as docs/trace.md describes it: apart from the reader of the project, to check it too."""

import zlib
from collections import namedtuple

from checks import expect

# kind: access, map, unmap, discard, protect, fork, exit, time. Pages by number; `value`: whether it was written, the
# rights, the child's space, or nanoseconds.
Event = namedtuple("Event", "kind space page pages value")

MAGIC = b"\x89QUIRE\r\n\x01\x00\x0c\x00"
WITH_RANGE = {0x03: "map", 0x05: "unmap", 0x07: "discard", 0x09: "protect"}


class _Input:
    def __init__(self, data):
        self.data = data
        self.at = len(MAGIC)

    def byte(self):
        expect(self.at < len(self.data), "the trace is cut off")
        self.at += 1
        return self.data[self.at - 1]

    def number(self):
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


def _signed(number):
    return number // 2 if number % 2 == 0 else -(number + 1) // 2


def read(path):
    """All events of a whole trace."""
    with open(path, "rb") as file:
        data = file.read()
    expect(data.startswith(MAGIC), "no magic")
    source, events = _Input(data), []
    last, other, space = 0, 0, 0
    while True:
        first = source.byte()
        if first & 1 == 0:
            near = first >> 4 & 7
            distance = _signed(near | source.number() << 3 if first & 128 else near)
            if first & 8:
                last, other = other + distance, last
            else:
                last += distance
            if first & 4:
                source.number()
            events.append(Event("access", space, last, 1, bool(first & 2)))
        elif first in WITH_RANGE:
            last += _signed(source.number())
            pages = source.number()
            rights = source.number() if first in (0x03, 0x09) else None
            events.append(Event(WITH_RANGE[first], space, last, pages, rights))
        elif first == 0x0B:
            space = source.number()
        elif first == 0x0D:
            events.append(Event("fork", space, None, None, source.number()))
        elif first == 0x0F:
            events.append(Event("exit", space, None, None, None))
        elif first == 0x11:
            events.append(Event("time", space, None, None, source.number()))
        else:
            expect(first == 0x1F, "an unknown record")
            break
    expect(source.number() == len(events), "another number of events than the end mark says")
    checksum = int.from_bytes(data[source.at : source.at + 4], "little")
    expect(len(data) == source.at + 4 and checksum == zlib.crc32(data[: source.at]), "the checksum is wrong")
    return events
