"""A private Redis: redis-server or valkey-server on PATH, else Debian's. Every write survives SIGKILL."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from binlogsync.errors import EmbeddedServerError
from binlogsync.servers import debian, installed_programs
from binlogsync.servers.installed_programs import ServerProgram, make_folder_path
from binlogsync.servers.process import HOST, LaunchOptions, ServerProcess, free_port
from binlogsync.servers.server import PrivateServer, run_server

PACKAGES = debian.PackageSet("redis", ("redis-server",), "install Redis 6 or newer so that `redis-server` is on PATH")
_AT_LEAST = (6, 0)
_PROBE_TIMEOUT_S = 2


@dataclass(kw_only=True)
class RedisServer(PrivateServer):
    """A running private Redis.

    Attributes:
        password: of the default user.
        data_dir: folder of its append-only file.
    """

    password: str = field(repr=False)
    data_dir: Path

    @property
    def url(self) -> str:
        """redis://:password@host:port/0"""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"


@contextmanager
def redis(
    data_dir: Path | None = None, port: int | None = None, options: Mapping[str, str] | None = None
) -> Iterator[RedisServer]:
    """Runs Redis while the block runs.

    Args:
        data_dir: folder of its data, which is not removed; None for a temporary folder.
        port: TCP port on 127.0.0.1; None for a free one.
        options: lines of its configuration, "maxmemory": "64mb"; "requirepass" sets the password.

    Raises EmbeddedServerError when the server is not available or does not start.
    """
    found = find_server()
    with run_server(
        lambda run_dir: _prepare_server(found, data_dir or run_dir / "data", run_dir, port, options or {}),
        keeps_data=data_dir is not None,
    ) as server:
        yield server


def find_server() -> ServerProgram:
    """The Redis to run."""
    for name in ("redis-server", "valkey-server"):
        if here := installed_programs.find_program(name, at_least=_AT_LEAST):
            return here
    command = debian.unpack_packages(PACKAGES).command("usr/bin/redis-server")
    version = installed_programs.parse_version(installed_programs.version_text(command))
    if version is None:
        raise EmbeddedServerError(f"the downloaded Redis does not run: {' '.join(command)} --version prints no version")
    return ServerProgram(command, version)


def _prepare_server(
    found: ServerProgram, data_dir: Path, run_dir: Path, port: int | None, options: Mapping[str, str]
) -> RedisServer:
    data = make_folder_path(data_dir)
    listen = port or free_port()
    settings = {
        "requirepass": secrets.token_urlsafe(18),
        "appendonly": "yes",
        "save": '""',
        **options,
        "bind": HOST,
        "port": str(listen),
        "dir": f'"{data}"',
        "daemonize": "no",
    }
    config = run_dir / "redis.conf"
    config.touch(mode=0o600)
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    password = settings["requirepass"]
    launch = LaunchOptions(
        name="Redis",
        command=(*found.command, str(config)),
        log=data / "server.log",
        is_ready=lambda: _is_ready(listen, password),
    )
    return RedisServer(
        host=HOST,
        port=listen,
        version=found.version,
        process=ServerProcess(launch),
        password=password,
        data_dir=data,
    )


def _is_ready(port: int, password: str) -> bool:
    """True when it accepts the password and has loaded its data (it replies LOADING until then)."""
    try:
        with socket.create_connection((HOST, port), timeout=_PROBE_TIMEOUT_S) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            replies = b""
            while replies.count(b"\r\n") < 2:
                received = connection.recv(4096)
                if not received:
                    return False
                replies += received
            return replies.startswith(b"+OK\r\n+PONG")
    except OSError:
        return False
