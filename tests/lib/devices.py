"""What some checks set up and take down again: a small file system on a loop device, a kernel that compacts memory."""

import contextlib
import os
import subprocess
import tempfile
import threading

from checks import Failed
from runner import work_directory


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
