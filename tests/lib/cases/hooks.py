"""Memory that only libc's own text asks for: of libraries that no symbol reaches, of a second libc, of libc itself. And what
comes of it where libc's text can't be changed: then the program runs unmanaged, as natively, with one line that says so."""

import os
import shutil

import quire
from cases import case_program, expect_same, run
from checks import expect
from runner import MIB, compiled, program, scratch

BUDGET = 32 * MIB
KINDS = ("own", "break", "second", "again")
# munmap's number and call as they are, and otherwise with the same effect.
MUNMAP = b"\xb8\x0b\x00\x00\x00\x0f\x05"
OTHERWISE = b"\x90\x90\x6a\x0b\x58\x0f\x05"
UNKNOWN = "its glibc is not as those that Quire knows"
FIXED = "the text of its libc can't be changed"


def hooks():
    return case_program("hooks", "-ldl")


def managed(checks, name, command):
    """One check: as natively, nothing of it outside, and pages were moved out."""
    with checks.case("hooks: " + name) as figures:
        native = run(command, timeout=60)
        done, report = quire.run_under(command, BUDGET, check=True, timeout=60)
        expect_same(native, done)
        evicted = quire.evicted(report)
        expect(evicted > BUDGET // quire.PAGE, "%d pages were moved out" % evicted)
        expect(report["unmanaged"] == 0, "outside: %s" % report["unmanaged_because"])
        figures.append("%d pages moved out" % evicted)


def unmanaged(checks, name, command, said, environment=None):
    """One check: as natively, with one line."""
    with checks.case("hooks: " + name):
        native = run(command, timeout=60, environment=environment)
        done, report = quire.run_under(command, BUDGET, timeout=60, environment=environment)
        expect(done.stderr.count(said) == 1, "not said once: %s" % done.stderr[-600:])
        expect((native.status, native.text) == (done.status, done.text), "natively %s; %s" % (native.text, done.describe()))
        expect(report["unmanaged"] > 0, "nothing is outside")


def changed_libc(directory):
    """A copy of libc in which one call is made otherwise."""
    with open("/proc/self/maps") as maps:
        path = next(line.split()[-1] for line in maps if "/libc.so.6" in line or "/libc-2." in line)
    with open(path, "rb") as file:
        text = file.read()
    expect(MUNMAP in text, "munmap of %s is not as expected" % path)
    with open(os.path.join(directory, "libc.so.6"), "wb") as file:
        file.write(text.replace(MUNMAP, OTHERWISE, 1))


def check(checks, scale):
    for kind in KINDS:
        managed(checks, "by the functions of libc: " + kind, [hooks(), kind])
    deep = compiled("libdeep.so", [program("cases/hooks_deep.c")], ["-shared", "-fPIC"])
    managed(checks, "RTLD_DEEPBIND", [hooks(), "deep", deep])
    managed(checks, "PR_SET_MDWE: by /proc/self/mem", [hooks(), "no-writes", hooks(), "own"])
    with scratch() as directory:
        changed_libc(directory)
        unmanaged(checks, "a libc that is not known", [hooks(), "own"], UNKNOWN, {"LD_LIBRARY_PATH": directory})
    if os.getuid() == 0 and shutil.which("unshare"):
        bare = ["unshare", "-m", "sh", "-c", 'while umount -l /proc 2>/dev/null; do :; done; exec "$@"', "sh", hooks(), "own"]
        unmanaged(checks, "PR_SET_MDWE and no /proc", [hooks(), "no-writes", *bare], FIXED)
