"""A bare Debian in a directory, made by debootstrap, and commands in it: in namespaces of their own, so that no mount and no
process outlives them."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess

from checks import expect
from runner import run, scratch, work_directory

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
# What a Rust toolchain needs.
COMPILER = ("gcc", "libc6-dev", "ca-certificates")

APART = ["setpriv", "--pdeathsig", "KILL", "--"]
APART += ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NODES = (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9))
USERFAULTFD = "/dev/userfaultfd"
# Of nobody.
USER = "65534"

# What debootstrap and apt say where the mirror does not answer.
NO_ANSWER = re.compile(r"Failed getting release file|Couldn't download|Failed to fetch|Unable to fetch|Could not resolve")
MOST_SECONDS = 1200


class NoAnswer(Exception):
    """The mirror does not answer, which is no fault of what is tested; the text is what was said."""


class Root:
    """An unpacked Debian. `shows`: what of the host is to be seen at which place, `ro` or `rw`. `path`: directories that go
    before the usual ones in PATH. `whole`: it has the host's devices and /sys, as an installed Debian has, where it else has
    a /dev with little in it and no /sys."""

    def __init__(self, directory, shows=(), path=(), whole=False, settings=()):
        self.directory = directory
        self.shows = {"/etc/resolv.conf": ("/etc/resolv.conf", "ro"), **dict(shows)}
        self.whole = whole
        self.settings = ["HOME=/root", "LC_ALL=C", "PATH=" + ":".join([*path, PATHS]), *settings]

    def command(self, words, mode="600", user=None, cwd="/"):
        """The command that runs `words` in it, by the user of that number. `mode` is that of /dev/userfaultfd; with None there
        is none."""
        if user:
            words = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *words]
        # The first process of a namespace gets no signal that it does not handle; so it is a shell.
        inside = ["sh", "-c", 'cd "$0" && "$@"; exit $?', cwd, *words]
        lines = ["set -e", "cd " + shlex.quote(self.directory), "mount --bind . .", 'cd "$PWD"', "mount -t proc proc proc"]
        lines += self._devices(mode)
        for place, (path, mode) in self.shows.items():
            lines += self._show(place, path, mode)
        lines += ["pivot_root . .", "umount -l .", 'exec chroot . env -i "$@"']
        return [*APART, "sh", "-c", "\n".join(lines), "sh", *self.settings, *inside]

    def _devices(self, mode):
        if self.whole:
            return ["mount --rbind /dev dev", "mkdir -p sys", "mount --rbind /sys sys"]
        lines = ["mount -t tmpfs -o mode=755,size=64k tmpfs dev"]
        lines += ["mknod -m 666 dev/%s c 1 %d" % node for node in NODES]
        if mode:
            device = os.stat(USERFAULTFD).st_rdev
            lines.append("mknod -m %s dev/userfaultfd c %d %d" % (mode, os.major(device), os.minor(device)))
        return lines

    def _show(self, place, path, mode):
        here = shlex.quote(place.lstrip("/"))
        if os.path.isdir(path):
            lines = ["mkdir -p " + here]
        else:
            # What is there may be a link, which leads out of the root.
            lines = ["rm -f " + here, "touch " + here]
        return [*lines, "mount --bind %s %s" % (shlex.quote(path), here), "mount -o remount,bind,%s %s" % (mode, here)]

    def run(self, words, timeout=300, **how):
        """Runs words in it; a Result. Nothing of Quire's stays behind."""
        result = run(self.command(words, **how), timeout=timeout)
        left = [name for place in ("/tmp", "/var/tmp") for name in self._left_behind(place)]
        expect(not left, "left behind: %s" % ", ".join(left))
        return result

    def _left_behind(self, place):
        """Files of Quire's in a directory; what is shown there is none of them."""
        for name in os.listdir(self.directory + place):
            path = os.path.join(place, name)
            if re.match(r"\.?quire-", name) and not any((shown + "/").startswith(path + "/") for shown in self.shows):
                yield path


def install_debootstrap():
    """Installs debootstrap where it is missing, and says so."""
    if shutil.which("debootstrap"):
        return
    print("tests/bare installs: debootstrap", flush=True)
    _fetch(["apt-get", "update", "-q"])
    _fetch(["apt-get", "install", "-qy", "--no-install-recommends", "debootstrap", "debian-archive-keyring"])


def plain():
    """The archive with the least Debian, without what is only recommended; made where it is not there yet."""

    def make(directory):
        install_debootstrap()
        _fetch([*APART, "debootstrap", "--variant=minbase", SUITE, directory, MIRROR])

    return _archive("bare-%s.tar" % SUITE, make)


def with_compiler():
    """The archive of the same with what a Rust toolchain needs."""

    def make(directory):
        _unpack(plain(), directory)
        root = Root(directory, settings=["DEBIAN_FRONTEND=noninteractive"])
        _fetch(root.command(["apt-get", "update", "-q"]))
        _fetch(root.command(["apt-get", "install", "-qy", "--no-install-recommends", *COMPILER]))
        _fetch(root.command(["apt-get", "clean"]))

    return _archive("bare-%s-compiler.tar" % SUITE, make)


@contextlib.contextmanager
def unpacked(archive):
    """A directory with what is in an archive; it goes away again."""
    with scratch() as place:
        directory = os.path.join(place, "root")
        os.mkdir(directory)
        _unpack(archive, directory)
        yield directory


def _unpack(archive, directory):
    subprocess.run(["tar", "--numeric-owner", "-xpf", archive, "-C", directory], check=True)


def _archive(name, make):
    path = os.path.join(work_directory(), name)
    if not os.path.exists(path):
        with scratch() as place:
            directory, fresh = os.path.join(place, "root"), os.path.join(place, "root.tar")
            os.mkdir(directory)
            make(directory)
            subprocess.run(["tar", "--numeric-owner", "-cf", fresh, "-C", directory, "."], check=True)
            os.rename(fresh, path)
    return path


def _fetch(command):
    """Runs a command that fetches packages."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        done = subprocess.run(command, env=environment, text=True, errors="replace", timeout=MOST_SECONDS, check=False, **pipes)
    except subprocess.TimeoutExpired:
        raise NoAnswer("no end after %d s: %s" % (MOST_SECONDS, " ".join(command[:3])))
    if done.returncode:
        words = " ".join(done.stdout.split())[-400:]
        if NO_ANSWER.search(done.stdout):
            raise NoAnswer(words)
        expect(False, "status %d: %s" % (done.returncode, words))
