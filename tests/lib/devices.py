"""Kernel devices that some checks set up and take down again: swap on zram, a small file system on a loop device."""

import contextlib
import glob
import os
import subprocess
import tempfile
import threading

from checks import Failed
from runner import work_directory

ZRAM_BYTES = 4 << 30
ALGORITHM = "lz4"


class Zram:
    """Swap on a zram device with lz4, in pages of 4K. A context manager."""

    def __init__(self):
        self.name = _unused_zram()
        self.device = "/dev/" + self.name
        self.on = False

    def _attribute(self, name):
        return "/sys/block/%s/%s" % (self.name, name)

    def __enter__(self):
        try:
            _write(self._attribute("comp_algorithm"), ALGORITHM)
            _write(self._attribute("disksize"), str(ZRAM_BYTES))
            _quietly("mkswap", self.device)
            _quietly("swapon", "--priority", "100", self.device)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Failed):
            _quietly("swapoff", self.device)
        _write(self._attribute("reset"), "1")

    def forget_peak(self):
        """Starts a new measurement of the peak."""
        _write(self._attribute("mem_used_max"), "0")

    def peak(self):
        """The most bytes that its pool has taken since then."""
        with open(self._attribute("mm_stat")) as file:
            return int(file.read().split()[4])


def _unused_zram():
    for path in sorted(glob.glob("/sys/block/zram*")):
        with open(path + "/disksize") as file:
            if int(file.read()) == 0:
                return os.path.basename(path)
    raise Failed("no unused zram device: modprobe zram, or free one with swapoff and zramctl --reset")


@contextlib.contextmanager
def swap_file(megabytes):
    """Swap on a file of that size, on the disk that spill files are on."""
    with tempfile.NamedTemporaryFile(prefix="swap-", dir=work_directory()) as file:
        os.chmod(file.name, 0o600)
        os.posix_fallocate(file.fileno(), 0, megabytes << 20)
        _quietly("mkswap", file.name)
        _quietly("swapon", "--priority", "100", file.name)
        try:
            yield
        finally:
            _quietly("swapoff", file.name)


@contextlib.contextmanager
def small_filesystem(megabytes, read_only=False):
    """An ext4 file system of that size, mounted; gives the directory."""
    with tempfile.TemporaryDirectory(prefix="mount-", dir=work_directory()) as place:
        image, directory = place + "/image", place + "/mounted"
        os.mkdir(directory)
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        _quietly("mkfs.ext4", "-q", "-F", "-m", "0", image)
        _quietly("mount", "-o", "loop,ro" if read_only else "loop", image, directory)
        try:
            yield directory
        finally:
            _quietly("umount", "--lazy", directory)


def _quietly(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise Failed("%s: %s" % (" ".join(command), done.stdout.decode().strip()))


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)


@contextlib.contextmanager
def compaction():
    """The kernel compacts memory all the while: any page may be migrated at any moment. Yields whether it may be asked."""
    knob = "/proc/sys/vm/compact_memory"
    over = threading.Event()

    def ask():
        while not over.is_set():
            with open(knob, "w") as file:
                file.write("1")

    if not os.access(knob, os.W_OK):
        yield False
        return
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield True
    finally:
        over.set()
        thread.join()
