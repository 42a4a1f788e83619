"""Calls on ranges of memory answer and do what they do natively, also where Quire has only a part of the range."""

from cases import case_program, same_as_native
from runner import MIB

BUDGET = 24 * MIB
PLACES = ("hints", "reservations", "commitments", "growing")


def check(checks, scale):
    for name in ("calls", "marks"):
        same_as_native(checks, "%s under pressure" % name, [case_program(name)], BUDGET)
        same_as_native(checks, "%s without a budget" % name, [case_program(name)])
    places = case_program("places")
    for part in PLACES:
        same_as_native(checks, "places: %s" % part, [places, part], BUDGET)
