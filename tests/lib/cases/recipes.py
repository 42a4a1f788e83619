"""The pages of docs/recipes: what each of them says to type is run, under the conditions that it is for, and what it shows
comes out."""

import configparser
import contextlib
import fcntl
import glob
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import termios
import time

import quire
from cases import TIMEOUT, case_program, wait_until
from cgroup import Cgroup
from checks import Failed, expect
from runner import MIB, REPOSITORY, expect_success, run, scratch

RECIPES = os.path.join(REPOSITORY, "docs", "recipes")
MOST_LINES = 40
DEVICE = "/dev/userfaultfd"
# A user and a group that nobody else is in.
USER, GROUP = "61234", "61235"

# A shell's program that ends by SIGTERM with status 5, and leaves nothing.
ENDS_BY_TERM = "trap 'kill $!; exit 5' TERM; sleep 60 & wait"
# A program that says each Ctrl-C, and ends a second after two of them.
COUNTS = r"""
$| = 1;
my $n = 0;
$SIG{INT} = sub { $n++; print "caught $n\n" };
print "ready\n";
sleep 1 while $n < 2;
sleep 1;
exit $n;
"""
# What the pages call `app`.
APP = r"""#!/usr/bin/perl
# app MB [STATUS [FILE]]: makes that much text, visits it in another order, prints what it comes to, and ends with the
# status. With a file it says when it is ready, and visits again until the file is there.
use strict;
my ($mb, $status, $file) = @ARGV;
$| = 1;
srand 7;
my @pieces;
push @pieces, pack('d*', map { rand } 1 .. 128) x 4 for 1 .. $mb * 256;
print "ready\n" if $file;
my $sum;
do {
    $sum = 0;
    my $at = 0;
    for (1 .. @pieces) {
        $at = ($at + 7919) % @pieces;
        $sum = ($sum * 31 + unpack '%32N*', $pieces[$at]) % 4294967291;
    }
} until !$file || -e $file;
print "$mb MB come to $sum\n";
exit $status;
"""


class Page:
    """A page: its text, and its blocks of code by language; those of output have none."""

    def __init__(self, name):
        with open(os.path.join(RECIPES, name)) as file:
            self.text = file.read()
        self.found = re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    def blocks(self, language):
        return [text.replace("\\\n", " ") for kind, text in self.found if kind == language]

    def expect_shows(self, text):
        """Each line of it is in a block of output."""
        shown = [line.strip() for block in self.blocks("") for line in block.splitlines()]
        for line in text.splitlines():
            expect(line.strip() in shown, "the page does not show %r" % line)


class Machine:
    """What the recipes need: a directory that /usr/local/bin is to be, with `quire`, `app` and more."""

    def __init__(self, directory, scale):
        os.chmod(directory, 0o755)
        self.bin = os.path.join(directory, "bin")
        os.mkdir(self.bin)
        shutil.copy(quire.binary(), os.path.join(self.bin, "quire"))
        shutil.copy(case_program("container"), os.path.join(self.bin, "case-container"))
        self.write("app", APP)
        self.timeout = scale.timeout
        self.outputs = {}

    def write(self, name, text):
        path = os.path.join(self.bin, name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def output(self, *words):
        """What `app` prints natively, without a limit."""
        if words not in self.outputs:
            result = run([os.path.join(self.bin, "app"), *words], timeout=self.timeout)
            expect_success(result)
            self.outputs[words] = result.text
        return self.outputs[words]

    def expect_app(self, page, result, *words):
        """It ended well and printed what it prints natively, which the page shows, and Quire reported in two lines."""
        expect_success(result)
        native = self.output(*words)
        expect(result.text == native, "natively %r, here %r; %s" % (native, result.text, result.describe()))
        page.expect_shows(native)
        lines = result.stderr.splitlines()
        expect(len(lines) == 2 and re.match(r"quire: \S*app: status 0 after", lines[0]), result.last_words())


@contextlib.contextmanager
def place(leaves):
    """A scratch directory that every user can enter. No file of Quire's is to be left in it but in caches, unless that is
    meant."""
    with scratch() as directory:
        os.chmod(directory, 0o755)
        yield directory
        walked = os.walk(directory)
        names = [name for at, inner, files in walked if not at.endswith("cache/quire") for name in inner + files]
        left = [name for name in names if re.match(r"\.?quire-", name)]
        expect(leaves or not left, "left behind: %s" % ", ".join(left))


def numbers_of_device():
    """Major and minor number of the host's device, as words."""
    device = os.stat(DEVICE).st_rdev
    return [str(os.major(device)), str(os.minor(device))]


def expect_refused(page, result, words):
    """Status 125 and one line, which the page shows."""
    expect(result.status == 125 and result.stderr.count("\n") == 1 and words in result.stderr, result.describe())
    page.expect_shows(result.stderr)


def expect_refused_to_user(page, figures, start):
    """So it is where this machine does not give every user a userfaultfd, without the device."""
    with open("/proc/sys/vm/unprivileged_userfaultfd") as file:
        if file.read().strip() == "1":
            figures.append("skipped: vm.unprivileged_userfaultfd is 1 on this machine")
        else:
            expect_refused(page, start(), "may not be opened by this user")


def processes(cgroup):
    """The name and the state of each process in a cgroup."""
    found = {}
    for pid in cgroup.pids():
        with contextlib.suppress(OSError), open("/proc/%d/stat" % pid) as file:
            name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            found[pid] = (name, rest.split()[0])
    return found


def wait_for(cgroup, name):
    """Waits for a process of this name."""
    wait_until(lambda: any(found == name for found, _ in processes(cgroup).values()), "%s runs" % name)


# Containers. `unshare` has made the namespaces. A root over the host's (or the host's own, where that can't be) and a /dev with
# little in it; then the filter and the capabilities.
CONTAINER = r"""
set -e
bin=$1 place=$2 major=$3 minor=$4 capabilities=$5
shift 5
root=$place/root dev=$place/root/dev
mount --make-rprivate /
mkdir "$root" "$place/work"
mount -t overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" overlay "$root" 2>/dev/null || {
    mkdir -m 1777 "$place/tmp"
    mount --bind / "$root"
    mount --bind "$place/tmp" "$root/tmp"
    mount --bind "$place/tmp" "$root/var/tmp"
}
mount --bind "$bin" "$root/usr/local/bin"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 -o ro cgroup "$root/sys/fs/cgroup"
else
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/memory"
    mount -t cgroup -o ro,memory cgroup "$root/sys/fs/cgroup/memory"
fi
mount -t tmpfs -o mode=755,size=64k tmpfs "$dev"
mkdir "$dev/pts" "$dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$dev/pts"
mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=64m tmpfs "$dev/shm"
node() {
    mknod -m "$2" "$dev/$1" c "$3" "$4"
}
node null 666 1 3
node zero 666 1 5
node full 666 1 7
node random 666 1 8
node urandom 666 1 9
node tty 666 5 0
ln -s /proc/self/fd "$dev/fd"
[ "$major" = none ] || node userfaultfd 600 "$major" "$minor"
cd "$root"
pivot_root . .
umount -l .
exec chroot . env -i HOME=/root LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    case-container setpriv --inh-caps=-all --bounding-set="$capabilities" -- "$@"
"""
NAMESPACES = ["--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc", "--cgroup"]
CAPABILITIES = (
    "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,"
    "+mknod,+audit_write,+setfcap"
)
# The same as /proc/PID/status has them.
EFFECTIVE = "CapEff:\t00000000a80425fb"
# Calls by number, and what becomes of each: the error, or 0.
ERRORS = {
    "bpf": (321, 1),
    "clone3": (435, 38),
    "getpid": (39, 0),
    "io_uring_setup": (425, 1),
    "keyctl": (250, 1),
    "mount": (165, 1),
    "perf_event_open": (298, 1),
    "process_madvise": (440, 1),
    "process_vm_readv": (310, 0),
    "ptrace": (101, 0),
    "unknown": (480, 38),
    "unshare": (272, 1),
    "userfaultfd": (323, 1),
}


class Container:
    """What a `docker run` in a page asks for."""

    def __init__(self, machine, text):
        words = shlex.split(text)
        expect(words[:2] == ["docker", "run"], text)
        self.machine, self.options, rest = machine, {}, words[2:]
        while rest[0].startswith("-"):
            option = rest.pop(0)
            self.options[option] = "" if option in ("--rm", "--init") else rest.pop(0)
        self.words = rest[1:]
        self.limit = int(self.options["-m"].removesuffix("M")) * MIB

    def run(self, *words, device=True, leaves=False, **how):
        """Runs words, or else those of the page, as the first process. `leaves`: what is left in the directory with its files is meant."""
        has_device = device and self.options.get("--device") == DEVICE
        numbers = numbers_of_device() if has_device else ["none", "none"]
        words = words or self.words
        if "--entrypoint" in self.options:
            words = [self.options["--entrypoint"], *words]
        if "--user" in self.options:
            user = self.options["--user"]
            words = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *words]
        how = {"limit": self.limit, "timeout": self.machine.timeout, **how}
        with place(leaves) as directory:
            make_upper(directory + "/upper")
            shell = ["sh", "-c", CONTAINER, "sh", self.machine.bin, directory, *numbers, CAPABILITIES]
            return run(["unshare", *NAMESPACES, *shell, *words], **how)


def make_upper(upper):
    """What lies over the host's root: empty directories for temporary files, in which nothing of the host's shows."""
    for name in ("tmp", "var/tmp"):
        path = os.path.join(upper, name)
        os.makedirs(path)
        os.chmod(path, 0o1777)
        os.setxattr(path, "trusted.overlay.opaque", b"y")


def check_container(checks, machine):
    page = Page("container.md")
    container, doctor, other = (Container(machine, text) for text in page.blocks("sh"))
    app = container.words[container.words.index("--") + 1:]
    with checks.case("container: it is as Docker makes one"):
        call = "print '%s ', syscall(%d, 0, 0, 0, 0, 0, 0) < 0 ? $! + 0 : 0, qq(\\n);"
        calls = " ".join(call % (name, number) for name, (number, _) in ERRORS.items())
        script = "echo $$; grep -e CapEff -e NoNew -e Seccomp: /proc/self/status; echo $(ls /dev); perl -e \"$0\""
        result = container.run("sh", "-c", script, calls)
        lines = result.text.splitlines()
        expect(lines[:4] == ["1", EFFECTIVE, "NoNewPrivs:\t0", "Seccomp:\t2"], result.describe() + result.text)
        expect(lines[4:5] == ["fd full null pts random shm tty urandom userfaultfd zero"], str(lines[4:5]))
        expect(lines[5:] == ["%s %d" % (name, error) for name, (_, error) in ERRORS.items()], str(lines[5:]))
    with checks.case("container: without the device one line says what to add"):
        expect_refused(page, container.run(device=False), "--device /dev/userfaultfd")
    with checks.case("container: natively the program is killed at %d MiB" % (container.limit // MIB)):
        result = container.run(*app)
        expect(result.was_killed(), result.describe())
    with checks.case("container: under Quire it runs as natively") as figures:
        result = container.run()
        machine.expect_app(page, result, *app[1:])
        figures.append(result.stderr)
    with checks.case("container: quire doctor names the filter, the device and the limit"):
        result = doctor.run()
        expect(result.status == 0, result.describe() + result.text)
        for name in ("userfaultfd", "seccomp filter", "cgroup"):
            (line,) = (line for line in result.text.splitlines() if line[8:].startswith(name + "  "))
            expect(line.startswith("ok "), line)
            # Which version of cgroups there is, is the machine's matter.
            page.expect_shows(re.sub(r"v[12](?: and v2)?(?=, limit)", "v1", line))
    with checks.case("container: another user than root is told of the device"):
        expect_refused(page, other.run(), "may not be opened by this user")
    ends = {"that handles SIGTERM": ("sh", "-c", ENDS_BY_TERM, 5), "that does not": ("sleep", "60", 143)}
    for name, (*words, status) in ends.items():
        with checks.case("container: docker stop ends a program " + name):
            result = container.run("quire", "run", "-q", "--", *words, while_running=stop)
            expect(result.status == status, "not %d: %s" % (status, result.describe()))
    with checks.case("container: what the program leaves behind keeps it up until a second SIGTERM"):
        leaves = ["sh", "-c", "trap 'exit 5' TERM; sleep 60 & wait"]
        result = container.run("quire", "run", "-q", "--", *leaves, leaves=True, while_running=stop_twice)
        expect(result.status == 5 and 3 < result.seconds < 10, "not 5: %s" % result.describe())


def stop(process, cgroup, times=1):
    """SIGTERM to the first process of a container, once its program sleeps; again every three seconds."""
    wait_for(cgroup, "sleep")
    with open("/proc/%d/task/%d/children" % (process.pid, process.pid)) as file:
        first = int(file.read())
    for number in range(times):
        # What has just become another program is not known to quire for some milliseconds.
        time.sleep(3 if number else 0.5)
        os.kill(first, signal.SIGTERM)


def stop_twice(process, cgroup):
    stop(process, cgroup, 2)


def check_entrypoint(checks, machine):
    page = Page("entrypoint.md")
    script, right, inside = page.blocks("sh")
    machine.write("entrypoint", script)
    right, inside = Container(machine, right), Container(machine, inside)
    with checks.case("entrypoint: setpriv outside, the program is inside the budget") as figures:
        result = right.run()
        machine.expect_app(page, result, *right.words[1:])
        figures.append(result.stderr)
    with checks.case("entrypoint: the program has the user, no right more, and gets signals"):
        show = "id -u; grep -c 'CapEff:.*0000000000000000' /proc/self/status; " + ENDS_BY_TERM
        result = right.run("sh", "-c", show, while_running=stop)
        expect((result.status, result.text) == (5, "65534\n1\n"), result.describe() + result.text)
    for mode in ("600", "666"):
        with checks.case("entrypoint: setpriv inside, mode %s of the device: the program is inside the budget" % mode) as figures:
            result = inside.run("sh", "-c", "chmod %s /dev/userfaultfd; exec \"$@\"" % mode, "sh", *inside.words)
            expect_success(result)
            expect(result.text == machine.output("192"), result.describe())
            page.expect_shows(result.text)
            expect(result.stderr.startswith("quire: setpriv: status 0 after"), result.last_words())
            figures.append(result.stderr)


# Machines: a mount namespace with our /usr/local/bin, a /tmp and a device of its own, on which `prepare` is done as root.
PRIVATE = r"""
set -e
bin=$1 place=$2 major=$3 minor=$4 prepare=$5
shift 5
mount --make-rprivate /
mkdir -p "$place/dev" "$place/tmp"
chmod 1777 "$place/tmp"
mount -t tmpfs -o mode=755 tmpfs "$place/dev"
mknod -m 600 "$place/dev/userfaultfd" c "$major" "$minor"
mount --bind "$place/dev/userfaultfd" /dev/userfaultfd
mount --bind "$bin" /usr/local/bin
mount --bind "$place/tmp" /tmp
mount --bind /tmp /var/tmp
cd /tmp
eval "$prepare"
exec env -i LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""


def run_private(machine, words, prepare="", files=None, **how):
    """Runs words as root on such a machine. `files` are there in its /tmp."""
    how = {"timeout": machine.timeout, **how}
    with place(False) as directory:
        os.mkdir(directory + "/tmp")
        for name, text in (files or {}).items():
            with open("%s/tmp/%s" % (directory, name), "w") as file:
                file.write(text)
        shell = ["sh", "-c", PRIVATE, "sh", machine.bin, directory, *numbers_of_device(), prepare]
        return run(["unshare", "--mount", *shell, *words], **how)


def as_user(*more):
    return ["setpriv", "--reuid", USER, "--regid", USER, *more]


def check_systemd(checks, machine):
    page = Page("systemd.md")
    (text,), (setup,) = page.blocks("ini"), page.blocks("sh")
    with checks.case("systemd: systemd-analyze takes the unit") as figures:
        if shutil.which("systemd-analyze"):
            check_unit(machine, text)
        else:
            figures.append("skipped: systemd-analyze is not installed (apt-get install systemd)")
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    service = unit["Service"]
    words = shlex.split(service["ExecStart"])
    limit = int(service["MemoryMax"].removesuffix("M")) * MIB
    (mode,) = re.findall(r'GROUP="%s", MODE="(\d+)"' % service["SupplementaryGroups"], setup)
    prepare = "chgrp %s /dev/userfaultfd; chmod %s /dev/userfaultfd" % (GROUP, mode)
    rights = ["--no-new-privs"] if service.getboolean("NoNewPrivileges") else []
    started = as_user("--groups", GROUP, *rights)
    app = words[words.index("--") + 1:]
    with checks.case("systemd: natively the service is killed at %d MiB" % (limit // MIB)):
        result = run_private(machine, [*started, *app], prepare, limit=limit)
        expect(result.was_killed(), result.describe())
    with checks.case("systemd: with the device's group it runs as natively") as figures:
        result = run_private(machine, [*started, *words], prepare, limit=limit)
        machine.expect_app(page, result, *app[1:])
        figures.append(result.stderr)
    with checks.case("systemd: with CAP_SYS_PTRACE it runs as natively") as figures:
        ambient = as_user("--clear-groups", "--inh-caps=+sys_ptrace", "--ambient-caps=+sys_ptrace", *rights)
        machine.expect_app(page, run_private(machine, [*ambient, *words], limit=limit), *app[1:])
    with checks.case("systemd: without either one line says so, and the unit is not started again") as figures:
        command = [*as_user("--clear-groups", *rights), *words]
        expect_refused_to_user(page, figures, lambda: run_private(machine, command, prepare, limit=limit))
        expect("125" in service["RestartPreventExitStatus"].split(), service["RestartPreventExitStatus"])
    with checks.case("systemd: the exit status is the program's"):
        result = run_private(machine, [*started, *words[:-1], "8", "3"], prepare, limit=limit)
        expect(result.status == 3 and result.text == machine.output("8"), result.describe())
    with checks.case("systemd: SIGTERM to the main process ends it as it ends the program"):
        expect(service["KillMode"] == "mixed", service["KillMode"])
        for native in (True, False):
            program = [*words[:-1], "8", "3", "/nonexistent/file"]
            program = program[program.index("--") + 1:] if native else program
            how = {"while_running": terminate, "limit": limit}
            result = run_private(machine, [*started, *program], prepare, **how)
            expect(result.status == -signal.SIGTERM and result.text == "ready\n", result.describe() + result.text)


def terminate(process, cgroup):
    """SIGTERM to the main process, once its program works."""
    wait_for(cgroup, "app")
    time.sleep(1)
    process.terminate()


def check_unit(machine, text):
    """No line is said of the unit; one is of a unit with a mistake."""
    for unit, is_right in ((text, True), (text.replace("MemoryMax", "MemoryMost"), False)):
        result = run_private(machine, ["systemd-analyze", "verify", "/tmp/app.service"], files={"app.service": unit})
        said = [line for line in result.stderr.splitlines() if "app.service" in line]
        expect(result.status == 0 or not is_right, result.describe())
        expect(bool(said) != is_right, "it says %s" % said)


def check_ci(checks, machine):
    page = Page("ci.md")
    (text,) = page.blocks("yaml")
    (opens,) = re.findall(r"run: sudo (.* /dev/userfaultfd)$", text, re.MULTILINE)
    (job,) = re.findall(r"run: (quire run .*)$", text, re.MULTILINE)
    expect("TMPDIR: ${{ runner.temp }}" in text, "no TMPDIR")
    private = "install -d -m 700 -o %s /tmp/runner" % USER
    shell = [*as_user("--clear-groups"), "env", "TMPDIR=/tmp/runner", "bash", "-e", "-c", job]
    words = shlex.split(job)
    app = words[words.index("--") + 1:]
    budget = int(words[words.index("-m") + 1].removesuffix("M")) * MIB
    limit = quire.cgroup_limit(budget)
    with checks.case("ci: natively the job is killed at %d MiB" % (limit // MIB)):
        result = run_private(machine, [*as_user("--clear-groups"), *app], limit=limit)
        expect(result.was_killed(), result.describe())
    with checks.case("ci: the job runs as natively, with a TMPDIR that only its user can enter") as figures:
        result = run_private(machine, shell, "%s; %s" % (opens, private), limit=limit)
        machine.expect_app(page, result, *app[1:])
        figures.append(result.stderr)
    with checks.case("ci: what does not fit into memory goes to that TMPDIR"):
        small = " ".join(["quire run --json", *words[2:-1], "8"])
        result = run_private(machine, [*shell[:-1], small], "%s; %s" % (opens, private), limit=limit)
        expect_success(result)
        expect(json.loads(result.stderr)["spill_directory"] == "/tmp/runner", result.last_words())
    with checks.case("ci: an entry for the user alone is enough") as figures:
        if shutil.which("setfacl"):
            entry = "setfacl -m u:%s:rw /dev/userfaultfd" % USER
            expect("setfacl -m u:$USER:rw /dev/userfaultfd" in page.text, "the page does not say so")
            machine.expect_app(page, run_private(machine, shell, "%s; %s" % (entry, private), limit=limit), *app[1:])
        else:
            figures.append("skipped: setfacl is not installed (apt-get install acl)")
    with checks.case("ci: without that step one line says what to do") as figures:
        expect_refused_to_user(page, figures, lambda: run_private(machine, shell, private))


class Terminal:
    """An interactive shell with job control on a terminal of its own; at the end all that it started is ended."""

    PROMPT = "@ "

    def __init__(self, shell, machine, directory):
        self.shell, self.machine, self.directory = shell, machine, directory
        self.cgroup = Cgroup("terminal")
        self.seen = ""

    def __enter__(self):
        # So that everything of Quire's lies there, the library too.
        os.chmod(self.directory, 0o755)
        self.leader, follower = pty.openpty()
        modes = termios.tcgetattr(follower)
        modes[1] &= ~termios.OPOST
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(follower, termios.TCSANOW, modes)
        path = "%s:%s" % (self.machine.bin, os.environ["PATH"])
        mine = {"PS1": self.PROMPT, "PATH": path, "TMPDIR": self.directory, "LC_ALL": "C", "TERM": "dumb"}
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), follower)
        how = {"cwd": self.directory, "env": mine, "start_new_session": True, "preexec_fn": self.prepare}
        self.process = subprocess.Popen(self.shell, **streams, **how)
        os.close(follower)
        try:
            self.prompt()
        except BaseException:
            self.__exit__()
            raise
        return self

    def prepare(self):
        """In the child: the terminal becomes its own, and no signal is ignored."""
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_DFL)
        self.cgroup.enter()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __exit__(self, *_):
        self.cgroup.remove()
        self.process.wait()
        os.close(self.leader)

    def press(self, keys):
        os.write(self.leader, keys.encode())

    def read(self, end):
        """What comes up to `end`, with it."""
        until = time.monotonic() + TIMEOUT
        while end not in self.seen:
            ready, _, _ = select.select([self.leader], [], [], max(0, until - time.monotonic()))
            if not ready:
                raise Failed("no %r after %d s, but %r; %s" % (end, TIMEOUT, self.seen, processes(self.cgroup)))
            self.seen += os.read(self.leader, 65536).decode(errors="replace")
        at = self.seen.index(end) + len(end)
        text, self.seen = self.seen[:at], self.seen[at:]
        return text

    def prompt(self):
        return self.read(self.PROMPT)

    def type(self, line):
        """Types a line, and answers what comes up to the next prompt."""
        self.press(line + "\n")
        return self.prompt()

    def status(self):
        return int(self.type("echo $?").split()[0])

    def states(self):
        """Of what the shell started: which programs there are, and in which states."""
        found = processes(self.cgroup)
        found.pop(self.process.pid, None)
        return sorted(name for name, _ in found.values()), {state for _, state in found.values()}


def control_c(terminal, file):
    terminal.press("./start\n")
    terminal.read("ready\n")
    terminal.press("\x03")
    terminal.prompt()
    return [terminal.status(), terminal.states()[0]]


def stop_it(terminal):
    """Starts it, stops it by Ctrl-Z. Answers which programs were stopped."""
    terminal.press("./start\n")
    terminal.read("ready\n")
    terminal.press("\x1a")
    expect("Stopped" in terminal.prompt(), "the shell does not say that it is stopped")
    wait_until(lambda: terminal.states()[1] == {"T"}, "all of it is stopped: %s" % (terminal.states(),))
    return terminal.states()[0]


def goes_on(terminal):
    wait_until(lambda: not {"T"} & terminal.states()[1], "nothing is stopped any more")


def fg(terminal, file):
    stopped = stop_it(terminal)
    terminal.press("fg\n")
    goes_on(terminal)
    open(file, "w").close()
    return [stopped, re.findall(".* come to .*", terminal.prompt()), terminal.status()]


def bg(terminal, file):
    stopped = stop_it(terminal)
    terminal.type("bg")
    goes_on(terminal)
    open(file, "w").close()
    said = terminal.read(" come to ") + terminal.read("\n")
    return [stopped, re.findall(".* come to .*", said), re.findall(r"^\d+$", terminal.type("wait %1; echo $?"), re.M)]


def check_terminal(checks, machine):
    page = Page("terminal.md")
    typed = [line[2:] for block in page.blocks("") for line in block.splitlines() if line.startswith("$ quire")]
    words = shlex.split(typed[0])
    app = words[words.index("--") + 1:]
    kinds = {"bash": ["bash", "--norc", "--noprofile", "--noediting", "-i"], "sh": ["sh", "-i"]}
    for shell, command in kinds.items():
        for name, play in {"Ctrl-C": control_c, "Ctrl-Z and fg": fg, "Ctrl-Z and bg": bg}.items():
            with checks.case("terminal: %s in %s" % (name, shell)) as figures:
                native = on_terminal(machine, command, app, ["7"], play)
                managed = on_terminal(machine, command, words, ["7"], play)
                figures.append(str(managed))
                expect(without_quire(managed) == native, "natively %s, under Quire %s" % (native, managed))
                expect(play is control_c or "quire" in managed[0], "quire itself was not stopped: %s" % managed)
    with checks.case("terminal: what the page shows"), scratch() as directory:
        with Terminal(kinds["bash"], machine, directory) as terminal:
            said = terminal.type(typed[0])
            page.expect_shows(machine.output(*app[1:]))
            expect(machine.output(*app[1:]) in said and "quire: app: status 0 after" in said, said)
    with checks.case("terminal: Ctrl-C comes once to a program that handles it"):
        program = ["perl", "-e", COUNTS]
        native = on_terminal(machine, kinds["bash"], program, [], caught)
        managed = on_terminal(machine, kinds["bash"], [*words[:-len(app)], *program], [], caught)
        expect(managed == native == [2], "natively %s, under Quire %s" % (native, managed))
    with checks.case("terminal: a pipeline whose reader ends"), scratch() as directory:
        (line,) = [line for line in typed if "| head" in line]
        with Terminal(kinds["bash"], machine, directory) as terminal:
            said = terminal.type(line + '; echo "${PIPESTATUS[*]}"')
            expect(said.startswith("y\n") and said.endswith("141 0\n" + terminal.PROMPT), said)
    with checks.case("terminal: what a program leaves behind is waited for, until Ctrl-C"), scratch() as directory:
        with Terminal(kinds["bash"], machine, directory) as terminal:
            terminal.press(shlex.join(["quire", "run", "-q", "--", "sh", "-c", "sleep 60 & sleep 1; exit 4"]) + "\n")
            wait_for(terminal.cgroup, "sleep")
            wait_until(lambda: "sh" not in terminal.states()[0], "the program has ended")
            time.sleep(1)
            expect(terminal.states()[0] == ["quire", "sleep"], "there are %s" % terminal.states()[0])
            terminal.press("\x03")
            terminal.prompt()
            answer = [terminal.status(), terminal.states()[0]]
            expect(answer == [4, ["sleep"]], str(answer))
    with checks.case("terminal: a shell with job control inside"):
        inner = kinds["bash"]
        native = on_terminal(machine, kinds["bash"], inner, [], inside)
        managed = on_terminal(machine, kinds["bash"], [*words[:-len(app)], *inner], [], inside)
        expect(managed == native == [130, 3], "natively %s, under Quire %s" % (native, managed))


def on_terminal(machine, shell, words, more, play):
    """Plays a scene with a program that is started as `./start`. Nothing is left behind."""
    with scratch() as directory:
        file, start = directory + "/file", directory + "/start"
        more = [*more, file] if more else []
        with open(start, "w") as script:
            script.write("#!/bin/sh\nexec %s\n" % shlex.join([*words, *more]))
        os.chmod(start, 0o755)
        with Terminal(shell, machine, directory) as terminal:
            answer = play(terminal, file)
            expect(not terminal.states()[0], "left behind: %s" % terminal.states()[0])
        left = set(os.listdir(directory)) - {"file", "start"}
        expect(not left, "left behind: %s" % left)
        return answer


def without_quire(answers):
    return [[name for name in answer if name != "quire"] if isinstance(answer, list) else answer for answer in answers]


def caught(terminal, file):
    terminal.press("./start\n")
    terminal.read("ready\n")
    for number in (1, 2):
        terminal.press("\x03")
        terminal.read("caught %d\n" % number)
    expect("caught" not in terminal.prompt(), "it came more than once")
    return [terminal.status()]


def inside(terminal, file):
    terminal.type("./start")
    terminal.press("sleep 60\n")
    wait_for(terminal.cgroup, "sleep")
    terminal.press("\x1a")
    expect("Stopped" in terminal.prompt(), "the inner shell does not say that it is stopped")
    terminal.press("fg\n")
    goes_on(terminal)
    terminal.press("\x03")
    terminal.prompt()
    ended = terminal.status()
    terminal.type("exit 3")
    return [ended, terminal.status()]


def check_pages(checks):
    with checks.case("recipes: each page is short, and is run"):
        names = {os.path.basename(path)[:-3] for path in glob.glob(RECIPES + "/*.md")}
        expect(names == set(PAGES), "there are %s" % sorted(names))
        for name in names:
            lines = Page(name + ".md").text.count("\n")
            expect(lines <= MOST_LINES, "%s has %d lines" % (name, lines))


PAGES = {
    "ci": check_ci,
    "container": check_container,
    "entrypoint": check_entrypoint,
    "systemd": check_systemd,
    "terminal": check_terminal,
}


def check(checks, scale):
    check_pages(checks)
    with scratch() as directory:
        machine = Machine(directory, scale)
        for check_page in PAGES.values():
            if os.path.exists(DEVICE) or check_page is check_terminal:
                check_page(checks, machine)
            else:
                with checks.case("recipes: %s" % check_page.__name__) as figures:
                    figures.append("skipped: this kernel has no /dev/userfaultfd (Linux 6.1)")
