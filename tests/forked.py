"""Processes that tests start and kill, forked from one that has imported their modules.

To import them in each process takes most of the CPU time of a short one. Tests of imports, of command lines and of
what Python reads at its start need a process of its own.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests.fork_server import MAX_REQUEST

ROOT = Path(__file__).parents[1]
_POLL_S = 0.01
# A fork has none of the threads that libraries start as they are imported.
_NO_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


class ForkedProcess:
    """A call of `function` of a module, in a forked process; with the methods of Popen that tests use.

    The process imports the modules of `imports` before the fork too. Its exit code is what the function returns.
    `stdin` and `stdout` are text, if they are subprocess.PIPE.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        function: str = "main",
        imports: Sequence[str] = (),
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.DEVNULL,
        stderr: int | IO[Any] | None = None,
        cwd: Path = ROOT,
        env: dict[str, str] | None = None,
    ) -> None:
        self.stdin: IO[str] | None = None
        self.stdout: IO[str] | None = None
        self.returncode: int | None = None
        with open(os.devnull, "r+b") as null:
            streams, given = [null.fileno(), null.fileno(), 2], []
            if stdin == subprocess.PIPE:
                streams[0], write = os.pipe()
                self.stdin = open(write, "w", encoding="utf-8")  # noqa: SIM115 - closed at the end of the block
                given.append(streams[0])
            if stdout == subprocess.PIPE:
                read, streams[1] = os.pipe()
                self.stdout = open(read, encoding="utf-8")  # noqa: SIM115
                given.append(streams[1])
            elif not isinstance(stdout, int):
                streams[1] = stdout.fileno()
            if stderr is not None:
                streams[2] = null.fileno() if isinstance(stderr, int) else stderr.fileno()
            self.pid = _server().start(
                {
                    "modules": [module, *imports],
                    "function": function,
                    "arguments": arguments,
                    "environment": dict(os.environ) if env is None else env,
                    "folder": str(cwd),
                },
                streams,
            )
            for descriptor in given:
                os.close(descriptor)

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pipes and wait for the end, like Popen."""
        for pipe in (self.stdin, self.stdout):
            if pipe is not None:
                pipe.close()
        self.wait()

    def poll(self) -> int | None:
        """The exit code, or None while the process runs."""
        if self.returncode is None:
            self.returncode = _server().exit_code(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(_POLL_S)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class _ServerProcess:
    """The process that forks, and the socket to it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, **_NO_THREADS},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self._end)

    def start(self, request: dict[str, Any], streams: Sequence[int]) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
            pid = self._answer()
        assert pid is not None
        return pid

    def exit_code(self, pid: int) -> int | None:
        with self._lock:
            self._socket.send(json.dumps({"wait": pid}).encode())
            return self._answer()

    def _answer(self) -> int | None:
        text = self._socket.recv(MAX_REQUEST)
        assert text, "the process that forks has ended"
        found: int | None = json.loads(text)
        return found

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def _server() -> _ServerProcess:
    return _ServerProcess()
