"""A process that imports modules once, and forks the processes of tests/forked.py: `python -m tests.fork_server FD`.

Each request on the socket FD is answered at once. A forked process has the standard streams, the environment and the
folder of the request, and dies with this one.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from binlogsync.servers.parent_death_signal import set_death_signal

MAX_REQUEST = 1 << 17
# What pyarrow and DuckDB import when they are first used with Python's values.
_LATER = ("pandas",)


class ForkServer:
    """Answers requests until the test's process closes its end of the socket."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests

    def serve(self) -> dict[str, Any] | None:
        """Returns None at the end, and in a forked process the request that started it."""
        while True:
            text, streams, _, _ = socket.recv_fds(self._requests, MAX_REQUEST, 3)
            if not text:
                return None
            request = json.loads(text)
            if "wait" in request:
                self._answer(self._exit_code(request["wait"]))
                continue
            for module in [*request["modules"], *_LATER]:
                importlib.import_module(module)
            gc.collect()
            gc.freeze()
            assert len(os.listdir("/proc/self/task")) == 1, "a fork has only one of the threads"
            if not (pid := os.fork()):
                self._become(request, streams)
                return dict(request)
            for stream in streams:
                os.close(stream)
            self._answer(pid)

    def _answer(self, value: int | None) -> None:
        self._requests.send(json.dumps(value).encode())

    def _exit_code(self, pid: int) -> int | None:
        """Like Popen.poll."""
        found, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    def _become(self, request: dict[str, Any], streams: Sequence[int]) -> None:
        set_death_signal(signal.SIGKILL)
        self._requests.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = [request["modules"][0], *request["arguments"]]


def main(number: str) -> None:
    """Serve; a forked process calls its function instead."""
    with socket.socket(fileno=int(number)) as requests:
        request = ForkServer(requests).serve()
    if request is not None:
        _call(sys.modules[request["modules"][0]], request["function"], request["arguments"])


def _call(module: ModuleType, function: str, arguments: Sequence[str]) -> None:
    """Call the function, and end the process without finalizing the interpreter, which would free each module."""
    try:
        code = getattr(module, function)(*arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - Python would print it too
        traceback.print_exc()
        code = 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()  # noqa: SLF001
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    main(sys.argv[1])
