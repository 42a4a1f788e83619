"""The kernel holds pages of a program that are evicted meanwhile: what arrives is what was sent."""

import cases
from checks import expect
from runner import MIB, scratch

BUDGET = 20 * MIB

# What is run, and what the kernel holds the pages for.
MODES = (
    ("holders", "zerocopy", "MSG_ZEROCOPY over TCP"),
    ("holders", "vmsplice", "vmsplice"),
    ("holders", "splice", "splice and tee onwards"),
    ("holders", "direct", "O_DIRECT beside pressure"),
    ("holders", "remote", "process_vm_readv and process_vm_writev"),
    ("holders_ring", "send_zc", "io_uring SEND_ZC"),
    ("holders_ring", "fixed", "io_uring registered buffers"),
    ("holders_net", "packet", "AF_PACKET"),
    ("holders_net", "xdp", "AF_XDP"),
)


def check(checks, scale):
    for program, mode, what in MODES:
        with checks.case("holders: " + what) as figures:
            _check_mode(cases.case_program(program), mode, figures)


def _check_mode(program, mode, figures):
    with scratch() as directory:
        native, managed, report = cases.both([program, mode, directory], BUDGET)
    expect(native.status == 0, "natively: " + native.describe())
    cases.expect_same(native, managed)
    if native.text.startswith("skip: "):
        figures.append(native.text.splitlines()[0])
        return
    expect(" 0 words are wrong" in native.text, native.text)
    expect(report is not None and sum(report.by_order("evictions")) > 1000, "little was evicted")
    figures.append("%s words, natively %.1f s, under Quire %.1f s" % (_held(native), native.seconds, managed.seconds))


def _held(native):
    """How many words the kernel held for each of the ways that were looked at."""
    return " and ".join(line.split(": ")[1].split()[0] for line in native.stderr.splitlines() if "words held" in line)
