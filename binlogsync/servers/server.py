"""The common code of all private servers: a handle to stop and restart them, and a temporary folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from binlogsync.servers.process import ServerProcess


@dataclass(kw_only=True)
class PrivateServer:
    """A running private server.

    Attributes:
        host, port: where clients connect.
        version: as text, "2.15.1".
        process: its process.
    """

    host: str
    port: int
    version: str
    process: ServerProcess = field(repr=False)

    @property
    def pid(self) -> int:
        """Process id; raises EmbeddedServerError when the server is stopped."""
        return self.process.pid

    def stop(self) -> None:
        """Shut down cleanly; the data remain. Does nothing when stopped."""
        self.process.stop()

    def kill(self) -> None:
        """Send SIGKILL; the data remain. Does nothing when stopped."""
        self.process.kill()

    def start(self) -> None:
        """Start it again after stop() or kill(): same port, data and passwords. Does nothing when running."""
        self.process.start()

    def restart(self) -> None:
        """stop() and start()."""
        self.process.stop()
        self.process.start()


_PREFIX = "binlogsync-run-"
_LOCK = "lock"
_STALE_AFTER_S = 3600

AnyServer = TypeVar("AnyServer", bound=PrivateServer)


@contextmanager
def run_server(prepare: Callable[[Path], AnyServer], *, keeps_data: bool) -> Iterator[AnyServer]:
    """Run the server that `prepare` returns, for the duration of the block.

    `prepare` gets a temporary folder for sockets, configuration and, unless `keeps_data`, data. A server whose data
    are removed with the folder is killed at the end: a clean shutdown of MySQL takes a second or more. The folder is
    not removed when the server does not start, because the error contains the path of the log in it.
    """
    with _run_dir() as run_dir:
        server = prepare(run_dir)
        server.process.start()
        try:
            yield server
        finally:
            if keeps_data:
                server.stop()
            else:
                server.kill()
            shutil.rmtree(run_dir, ignore_errors=True)


@contextmanager
def _run_dir() -> Iterator[Path]:
    """A folder with a short path (a socket's may have 107 characters), locked by this process while it lives."""
    _remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _remove_stale() -> None:
    """Remove folders of processes that were killed: old ones that no process has locked."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime < _STALE_AFTER_S or folder.stat().st_uid != os.geteuid():
                continue
            with (folder / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use, or another process was faster
