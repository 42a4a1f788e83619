"""The preload library that `quire` carries: where it lies while programs run, who can read it, and that it goes away again."""

import fcntl
import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time

import quire
from cases import TIMEOUT, wait_until
from checks import expect
from runner import MIB, run, scratch

BUDGET = 64 * MIB
QUIET = ["-q", "--no-spill"]
NAME = "libquire_preload.so"
# Runs that begin at once, where nothing is yet.
RUNS = 12
# Of nobody.
USER = "65534"


class Place:
    """A directory that everybody can enter, as $TMPDIR of runs that have no cache: what they leave in it."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="quire-place-", dir="/var/tmp")
        os.chmod(self.path, 0o755)
        self.variables = {"TMPDIR": self.path, "XDG_CACHE_HOME": "/dev/null"}
        self.how = {"environment": self.variables, "timeout": TIMEOUT}
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def libraries(self):
        """The directories with a library; those of runs' sockets are another matter."""
        return [name for name in os.listdir(self.path) if os.path.exists(os.path.join(self.path, name, NAME))]

    def begin(self, words):
        """Starts a program, which runs when this returns."""
        environment = {**os.environ, **self.variables}
        process = subprocess.Popen(
            quire.command_line(["sh", "-c", 'echo begun; exec "$@"', "sh", *words], BUDGET, QUIET),
            env=environment,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        expect(process.stdout.readline() == b"begun\n", "the program does not begin")
        return process

    def start_and_end(self):
        result = run(quire.command_line(["true"], BUDGET, QUIET), **self.how)
        expect(result.status == 0, result.describe())


def check_one_file(checks):
    with checks.case("the binary alone in a directory runs programs"), scratch() as directory:
        alone = os.path.join(directory, "quire")
        shutil.copy(quire.binary(), alone)
        result = run([alone, "run", "-q", "--", "sh", "-c", 'test -n "$LD_PRELOAD"'], timeout=TIMEOUT)
        expect(result.status == 0 and not result.stderr, result.describe())


def check_users(checks):
    """A program of another user in the tree can load the library."""
    with checks.case("programs of another user find the library"), Place() as place:
        words = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "sh", "-c", 'cat "${LD_PRELOAD##*/..}" | wc -c']
        result = run(quire.command_line(words, BUDGET, QUIET), **place.how)
        expect(result.status == 0 and int(result.text) > MIB, result.describe() + result.text)
        expect("ld.so" not in result.stderr and not place.libraries(), result.last_words())


def check_first_starts(checks):
    with checks.case("%d first starts at once" % RUNS), Place() as place:
        environment = {**os.environ, **place.variables}
        command = quire.command_line(["sh", "-c", "exec true"], BUDGET, QUIET)
        runs = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(RUNS)]
        said = [process.communicate(timeout=TIMEOUT)[1] for process in runs]
        expect(all(process.returncode == 0 for process in runs) and not any(said), "they say %s" % said)
        expect(not place.libraries(), "left behind: %s" % place.libraries())


def check_ends(checks):
    """Whoever ends last removes it; what a killed `quire` leaves, the next one does, unless a program still has it."""
    with checks.case("two runs share the library, and the last one removes it"), Place() as place:
        first = place.begin(["sleep", "60"])
        second = place.begin(["sleep", "60"])
        expect(len(place.libraries()) == 1, "there are %s" % place.libraries())
        first.terminate()
        first.wait()
        expect(len(place.libraries()) == 1, "a program has no library any more")
        second.terminate()
        second.wait()
        expect(not place.libraries(), "left behind: %s" % place.libraries())
    for name, number in (("killed", signal.SIGKILL), ("told twice to leave", signal.SIGINT)):
        with checks.case("a quire that was %s leaves it to its program, the next removes it" % name), Place() as place:
            script = "trap '' INT; sleep 60 & echo $! >&3; exec sleep %s" % ("60" if number == signal.SIGKILL else "0")
            path = os.path.join(place.path, "pid")
            process = place.begin(["sh", "-c", 'exec 3>"$0"; ' + script, path])
            wait_until(lambda: os.path.exists(path) and os.path.getsize(path), "the program says which child it has")
            with open(path) as file:
                sleeper = int(file.read())
            try:
                time.sleep(1)
                process.send_signal(number)
                process.wait(TIMEOUT)
                place.start_and_end()
                expect(len(place.libraries()) == 1, "a program has no library any more")
            finally:
                os.killpg(process.pid, signal.SIGKILL)
            wait_until(lambda: not os.path.exists("/proc/%d/exe" % sleeper), "the child has ended")
            place.start_and_end()
            expect(not place.libraries(), "left behind: %s" % place.libraries())


def check_places(checks):
    with checks.case("a place where nothing may be executed is passed over"), Place() as place:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,mode=755", "tmpfs", place.path], check=True)
        try:
            script = 'test -r "${LD_PRELOAD##*/..}"'
            words = ["sh", "-c", script]
            result = run(quire.command_line(words, BUDGET, ["-q", "--no-spill"]), **place.how)
            expect(result.status == 0 and "ld.so" not in result.stderr, result.describe())
            expect(not place.libraries(), "it was laid into %s" % place.libraries())
        finally:
            subprocess.run(["umount", place.path], check=True)


def check_cache(checks):
    """In the user's cache the library stays, for the next run, and so long as a program of a run that was killed has it."""
    with checks.case("what lies in the cache is used again, also by %d starts at once" % RUNS), Place() as place:
        environment = {**os.environ, "XDG_CACHE_HOME": place.path}
        script = 'stat -Lc "%i %a %s" "${LD_PRELOAD##*/..}"'
        command = quire.command_line(["sh", "-c", script], BUDGET, QUIET)
        runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(RUNS)]
        said = [process.communicate(timeout=TIMEOUT) for process in runs]
        expect(all(out and not errors for out, errors in said), "they say %s" % said)
        again = [run(command, environment={"XDG_CACHE_HOME": place.path}, timeout=TIMEOUT) for _ in range(2)]
        expect(again[0].text == again[1].text and again[0].text.split()[1] == "555", again[0].text + again[1].text)
        kept = glob.glob(os.path.join(place.path, "quire", "*", "*"))
        expect(len(kept) == 1 and os.path.basename(kept[0]) == NAME, "the cache has %s" % kept)
        # One that is not whole, and a cache that is somebody else's.
        os.truncate(kept[0], 1000)
        mended = run(command, environment={"XDG_CACHE_HOME": place.path}, timeout=TIMEOUT)
        expect(mended.text.split()[2] == again[0].text.split()[2], mended.describe() + mended.text)
        # A lock of somebody else's, who may read the directory, is not waited for.
        directory = os.open(os.path.dirname(kept[0]), os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        locked = run(command, environment={"XDG_CACHE_HOME": place.path, "TMPDIR": place.path}, timeout=10)
        os.close(directory)
        expect(locked.status == 0 and locked.text and not place.libraries(), locked.describe())
        os.chown(os.path.dirname(kept[0]), int(USER), int(USER))
        os.unlink(kept[0])
        other = run(command, environment={"XDG_CACHE_HOME": place.path}, timeout=TIMEOUT)
        expect(other.text.split()[2] == again[0].text.split()[2] and not os.path.exists(kept[0]), other.describe())


def check(checks, scale):
    check_one_file(checks)
    check_cache(checks)
    check_users(checks)
    check_first_starts(checks)
    check_ends(checks)
    check_places(checks)
