"""A redis-server with seeded contents under GET load. What it holds afterwards is compared by its own digest."""

import os
import shutil
import subprocess
import time

import inputs
from checks import expect
from runner import scratch

# Memory a key takes with its value, about.
BYTES_PER_KEY = 620
CLIENTS = 8
START_SECONDS = 20


def installed():
    return all(shutil.which(name) for name in ("redis-server", "redis-benchmark", "redis-cli"))


def install():
    """From the distribution, without starting its service."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    packages = ["redis-server", "redis-tools"]
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        expect(done.returncode == 0, "%s: %s" % (" ".join(command), done.stdout.decode()[-300:]))


class Load:
    """Fills a server that has been started and sends it GETs. Afterwards `seconds` and `digest` are set, or `problem`.

    redis-benchmark draws its keys uniformly, but takes no seed.
    """

    def __init__(self, socket, keys, requests, timeout):
        self.socket = socket
        self.keys = keys
        self.requests = requests
        self.timeout = timeout
        self.seconds = None
        self.digest = None
        self.problem = None

    def server(self):
        """The server's command line."""
        options = {"port": "0", "unixsocket": self.socket, "save": "", "enable-debug-command": "local"}
        return ["redis-server", *(word for name, value in options.items() for word in ("--" + name, value))]

    def __call__(self, process, _cgroup):
        """Drives the server. It may be killed on the way: then the rest is left out."""
        try:
            self._await_server(process)
            with open(inputs.redis_commands(self.keys), "rb") as commands:
                self._client("redis-cli", "--pipe", stdin=commands)
            self.seconds = self._time_gets()
            self.digest = self._client("redis-cli", "debug", "digest")
            self._client("redis-cli", "shutdown", "nosave")
        except (subprocess.SubprocessError, OSError) as problem:
            self.problem = str(problem)
            process.kill()

    def _await_server(self, process):
        deadline = time.monotonic() + START_SECONDS
        while not os.path.exists(self.socket):
            if process.poll() is not None or time.monotonic() > deadline:
                raise OSError("redis-server did not start")
            time.sleep(0.05)

    def _time_gets(self):
        options = ["-t", "get", "-c", CLIENTS, "-n", self.requests, "-r", self.keys, "-q"]
        start = time.monotonic()
        self._client("redis-benchmark", *map(str, options))
        return time.monotonic() - start

    def _client(self, name, *options, stdin=subprocess.DEVNULL):
        command = [name, "-s", self.socket, *options]
        done = subprocess.run(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=self.timeout, check=True
        )
        return done.stdout


def drive(start, keys, requests, timeout):
    """Calls `start(command, load)`, which runs the server somewhere; returns its Result and the Load."""
    with scratch() as directory:
        load = Load(os.path.join(directory, "socket"), keys, requests, timeout)
        return start(load.server(), load), load
