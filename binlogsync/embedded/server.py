"""What all private servers have in common: a handle to stop and restart them, and a folder that lives as long."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from binlogsync.embedded.process import ServerProcess


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
        """Clean shutdown; the data stay. Does nothing when it does not run."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL; the data stay. Does nothing when it does not run."""
        self.process.kill()

    def restart(self) -> None:
        """Stops it when it runs, and starts it again: same port, data and passwords."""
        self.process.stop()
        self.process.start()


AnyServer = TypeVar("AnyServer", bound=PrivateServer)


@contextmanager
def running(prepare: Callable[[Path], AnyServer]) -> Iterator[AnyServer]:
    """Runs the server that `prepare` makes while the block runs.

    `prepare` gets a folder for sockets, configuration and, when the caller named no other, data. It is removed
    afterwards, but kept when the server does not start, because the error names the log in it.
    """
    run_dir = Path(tempfile.mkdtemp(prefix="binlogsync-"))
    server = prepare(run_dir)
    server.process.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(run_dir, ignore_errors=True)
