"""Processes that tests start and kill, forked from one that has imported their modules.

To import them in each process takes most of the CPU time of a short one. Tests of imports, of command lines and of
what Python reads at its start need a new interpreter. Unlike the processes of multiprocessing's fork server, these have
the standard streams, the environment and the folder that the test gives them.
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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests.fork_server import MAX_REQUEST

ROOT = Path(__file__).parents[1]
Stream = int | IO[Any] | None
_POLL_S = 0.01
# A fork has none of the threads that libraries start as they are imported.
_NO_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


class ForkedProcess:
    """A call of `function` of a module, in a forked process; with the methods of Popen that tests use.

    The process imports the modules of `imports` before the fork too. Its exit code is what the function returns.
    A stream that is None is that of the test; pipes are text.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        function: str = "main",
        imports: Sequence[str] = (),
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.DEVNULL,
        stderr: Stream = None,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.returncode: int | None = None
        request = {
            "modules": [module, *imports],
            "function": function,
            "arguments": arguments,
            "environment": dict(os.environ if env is None else env),
            "folder": str(cwd),
        }
        with ExitStack() as opened:
            streams, self._pipes = [], dict[int, IO[str]]()
            for number, given in enumerate((stdin, stdout, stderr)):
                if given == subprocess.PIPE:
                    ends = os.pipe()
                    theirs, ours = ends if number == 0 else reversed(ends)
                    self._pipes[number] = open(ours, "r" if number else "w", encoding="utf-8")  # noqa: SIM115
                    opened.callback(os.close, theirs)
                elif given == subprocess.DEVNULL:
                    theirs = opened.enter_context(open(os.devnull, "r+b")).fileno()
                else:
                    theirs = number if given is None or isinstance(given, int) else given.fileno()
                streams.append(theirs)
            self.pid = _server().start(request, streams)
        self.stdin, self.stdout, self.stderr = (self._pipes.get(number) for number in range(3))

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pipes and wait for the end, like Popen."""
        for pipe in self._pipes.values():
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
                start_new_session=True,
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
