"""One server process: start it, wait until it is ready, stop it. Its output goes to a log file, which errors quote.

The process dies with this one (see parent_death_signal.py), and runs in a separate session, so that Ctrl-C in a
terminal reaches only the program that owns it, which then stops its servers in its own order.

Linux counts the thread that started the process as its parent: start servers from a thread that lives as long as they
do.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from binlogsync.errors import EmbeddedServerError
from binlogsync.servers import parent_death_signal
from binlogsync.waiting import RetryTimer

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
_POLL_S = 0.03
_QUOTED_LINES = 15
# Below the range from which Linux takes ports for outgoing connections, so that a restart finds its port free.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that no process listens on."""
    for _ in range(200):
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise EmbeddedServerError(f"no free port on {HOST} between {_PORTS.start} and {_PORTS.stop}; stop other servers")


def bound_to_this_process(command: Sequence[str]) -> list[str]:
    """The command line of a child process that ends with this process, also when this one is killed."""
    return [sys.executable, "-I", "-S", parent_death_signal.__file__, str(os.getpid()), *command]


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """How to start and stop a server.

    Attributes:
        name: for messages.
        command: the whole command line.
        log: file that gets its output, appended.
        is_ready: true when the server can be used; must not block for long.
        start_timeout_s, stop_timeout_s: how long a start and a clean stop may take.
    """

    name: str
    command: Sequence[str]
    log: Path
    is_ready: Callable[[], bool]
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 20.0


class ServerProcess:
    """The process of a server; can be started and stopped any number of times."""

    def __init__(self, launch: LaunchOptions) -> None:
        self._launch = launch
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; raises EmbeddedServerError when it is stopped."""
        if self._process is None:
            raise EmbeddedServerError(f"{self._launch.name} is not running; start it with restart()")
        return self._process.pid

    def start(self) -> None:
        """Start the process and return when it is ready; otherwise raise an error with the end of its log."""
        if self._process is not None:
            return
        launch = self._launch
        launch.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with launch.log.open("ab") as log:
            self._process = subprocess.Popen(
                bound_to_this_process(launch.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise
        logger.info("%s started, pid %d", launch.name, self._process.pid)

    def stop(self) -> None:
        """Send SIGTERM, then SIGKILL after the timeout. Does nothing when stopped."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self._launch.stop_timeout_s)
        except subprocess.TimeoutExpired:
            logger.warning("%s did not stop in %.0f s; killed", self._launch.name, self._launch.stop_timeout_s)
        self.kill()

    def kill(self) -> None:
        """Send SIGKILL; to its clients this looks like a power failure. Does nothing when stopped."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        timer = RetryTimer(self._launch.start_timeout_s, _POLL_S)
        while not self._launch.is_ready():
            if (code := process.poll()) is not None:
                raise self._start_error(f"ended with exit code {code} before it was ready")
            if timer.is_over:
                raise self._start_error(f"was not ready within {self._launch.start_timeout_s:.0f} s")
            timer.pause()

    def _start_error(self, what: str) -> EmbeddedServerError:
        log = self._launch.log
        lines = log.read_text(errors="replace").splitlines()[-_QUOTED_LINES:]
        quoted = "\n".join(f"    {line}" for line in lines)
        return EmbeddedServerError(
            f"the private {self._launch.name} server {what}; the end of its log {log}:\n{quoted}"
        )
