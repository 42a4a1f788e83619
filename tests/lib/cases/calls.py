"""Calls on ranges of memory answer and do what they do natively, also where Quire has only a part of the range."""

from cases import case_program, same_as_native
from runner import MIB

BUDGET = 16 * MIB


NAMES = ("calls", "marks")


def check(checks, scale):
    under_pressure(checks)
    for name in NAMES:
        same_as_native(checks, "%s without a budget" % name, [case_program(name)])


def under_pressure(checks):
    for name in NAMES:
        same_as_native(checks, "%s under pressure" % name, [case_program(name)], BUDGET)
    places = case_program("places")
    for part in ("hints", "reservations", "commitments", "growing"):
        same_as_native(checks, "places: %s" % part, [places, part], BUDGET)
