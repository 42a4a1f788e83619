"""Programs of other users in a tree that root started: they are managed, whether they sleep at first or not, and whether they
were started as another user or became one. Nobody else gets in."""

import os
import shutil

import quire
from cases import case_program, expect_same, run
from checks import expect
from runner import MIB, expect_success, scratch
from scale import system_python

USER = 65534
BUDGET = 32 * MIB
FRONT = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
# Where the socket is, all have to be able to go.
OPEN = {"TMPDIR": "/tmp"}
WAYS = {
    "from the start": ([quire.AWAKE], OPEN),
    "woken when memory is short": ([quire.ASLEEP], {"QUIRE_WAKE": "short", **OPEN}),
    "woken soon": ([quire.ASLEEP], {"QUIRE_WAKE": "soon", **OPEN}),
}
# In one program: it is small still when it gives its rights away.
BECOMES = {
    "setuid": "$) = '%d %d'; $( = %d; $< = $> = %d;" % ((USER,) * 4),
    "seteuid": "$> = %d;" % USER,
    "capset": "my ($h, $d) = (pack('LL', 0x20080522, 0), pack('L6', (0) x 6)); syscall(126, $h, $d) == 0 or die 'capset';",
    "chroot": "chroot('/proc/self/fdinfo') && chdir('/') or die 'chroot';",
}
FILLS = "my @p = map { chr(65 + $_ % 26) x 1048576 } 0 .. 79; for (0 .. 79) { $p[$_] eq chr(65 + $_ % 26) x 1048576 or die 'wrong' } print qq(right $>\n);"
# It asks for the device at the socket, as a process of Quire's does.
ASKS = r"""
import os, socket, sys
own = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
own.settimeout(5)
try:
    own.connect(sys.argv[1])
    own.send(b"\x0b")
    data, fds, _, _ = socket.recv_fds(own, 1024, 8)
    print("answer", data[:1].hex(), len(fds))
except OSError as error:
    print(type(error).__name__)
try:
    print(os.listdir(os.path.dirname(sys.argv[1])))
except OSError as error:
    print(type(error).__name__)
"""


def check(checks, scale):
    if os.getuid() != 0 or not shutil.which("setpriv"):
        with checks.case("programs of other users") as figures:
            figures.append("skipped: only root can start them")
        return
    touch, forks = case_program("touch"), case_program("forks")
    programs = {"contents": [touch, "96"], "forks": [forks, "fork", "2", "48", "0"], "exec": [touch, "48", "2"]}
    for way, (options, environment) in WAYS.items():
        for name, command in programs.items():
            compare(checks, "%s of another user, %s" % (name, way), [*FRONT, *command], options, environment)
        for name, becomes in BECOMES.items():
            command = ["perl", "-e", becomes + FILLS]
            compare(checks, "it becomes another user: %s, %s" % (name, way), command, options, environment)
    check_strangers(checks)
    with checks.case("a TMPDIR that only root may enter: one line says so"), scratch() as directory:
        command = quire.command_line([*FRONT, touch, "48"], BUDGET, [quire.AWAKE])
        done = run(command, timeout=60, environment={"TMPDIR": directory})
        expect_success(done)
        lines = [line for line in done.stderr.splitlines() if "touch runs outside the budget" in line]
        expect(len(lines) == 1 and "it has no right to use userfaultfd" in lines[0], done.last_words())


def compare(checks, name, command, options, environment):
    with checks.case(name) as figures:
        native = run(command, timeout=60)
        managed, report = quire.run_under(command, BUDGET, options, timeout=60, environment=environment)
        expect_same(native, managed)
        expect_success(managed)
        because, moved = report["unmanaged_because"], quire.evicted(report)
        expect(because == {} and moved > 1024, "%s, %d pages moved out: %s" % (because, moved, managed.last_words()))
        figures.append("%d pages moved out" % moved)


def check_strangers(checks):
    """Who has the socket's name and is not of the tree gets no answer; who is of it gets the device; nobody can list the directory."""
    with checks.case("only descendants of another user get what quire lends"), scratch() as directory:
        os.chmod(directory, 0o755)
        asks = os.path.join(directory, "asks")
        with open(asks, "w") as file:
            file.write(ASKS)
        other = [*FRONT, system_python(), asks]
        inside = run([quire.binary(), "run", "-q", "--", "sh", "-c", '"$@" "$QUIRE_SOCKET"', "sh", *other], timeout=60, environment=OPEN)
        expect(inside.text == "answer 07 1\nPermissionError\n", inside.describe() + inside.text)
        # A process that is not below this quire: it was started before, and waits for the name.
        script = 'mkfifo "$0/name"; (read name < "$0/name"; "$@" "$name" > "$0/answer"; echo > "$0/over") & ' \
            '"$QUIRE" run -q -- sh -c \'echo "$QUIRE_SOCKET" > "$0/name"; while [ ! -e "$0/over" ]; do sleep 0.05; done\' "$0"; wait; cat "$0/answer"'
        outside = run(["sh", "-c", script, directory, *other], timeout=60, environment={"QUIRE": quire.binary(), **OPEN})
        expect_success(outside)
        lines = outside.text.splitlines()
        expect(lines[0] in ("answer  0", "ConnectionResetError") and lines[1:] == ["PermissionError"], outside.text)
