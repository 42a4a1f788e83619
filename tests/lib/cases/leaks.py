"""A program that does everything a hundred times has afterwards what it had after forty: no mapping, descriptor, thread or child
more."""

from cases import case_program, same_as_native
from runner import MIB

BUDGET = 24 * MIB


def check(checks, scale):
    leaks = case_program("leaks", "-ldl")
    for name, arguments, budget in (("", [], None), (" under pressure", ["28"], BUDGET)):
        same_as_native(checks, "nothing is left of a hundred cycles of calls%s" % name, [leaks, *arguments], budget)
