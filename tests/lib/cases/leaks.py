"""A program that does everything again and again has afterwards what it had after two fifths of it: no mapping, descriptor,
thread or child more."""

from cases import case_program, same_as_native
from runner import MIB

BUDGET = 24 * MIB
PRESSURE = 28
CYCLES, CYCLES_IN_FULL = 40, 100


def check(checks, scale):
    cycles = CYCLES_IN_FULL if scale.full else CYCLES
    leaks = [case_program("leaks", "-ldl"), str(cycles)]
    for name, arguments, budget in (("", [], None), (" under pressure", [str(PRESSURE)], BUDGET)):
        same_as_native(checks, "nothing is left of %d cycles of calls%s" % (cycles, name), [*leaks, *arguments], budget)
