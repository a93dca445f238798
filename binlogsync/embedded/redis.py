"""A private Redis: redis-server or valkey-server on PATH, else Debian's. Every write survives a kill."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from binlogsync.embedded import debian, installed
from binlogsync.embedded.installed import Program, folder_of
from binlogsync.embedded.process import HOST, Launch, ServerProcess, free_port
from binlogsync.embedded.server import PrivateServer, running
from binlogsync.errors import EmbeddedServerError

PACKAGES = debian.PackageSet("redis", ("redis-server",), "install Redis 6 or newer so that `redis-server` is on PATH")
_AT_LEAST = (6, 0)
_PROBE_TIMEOUT_S = 2


@dataclass(kw_only=True)
class RedisServer(PrivateServer):
    """A running private Redis.

    Attributes:
        password: of the default user.
        data_dir: its append-only file is there.
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
        data_dir: its files, kept afterwards and used again; None makes a folder that is removed afterwards.
        port: TCP port of 127.0.0.1; None takes a free one.
        options: lines of its configuration, "maxmemory": "64mb"; "requirepass" chooses the password.

    Raises EmbeddedServerError when the server cannot be had or does not start.
    """
    found = find()
    with running(lambda run_dir: _prepare(found, data_dir or run_dir / "data", run_dir, port, options or {})) as server:
        yield server


def find() -> Program:
    """The Redis to run."""
    for name in ("redis-server", "valkey-server"):
        if here := installed.program(name, at_least=_AT_LEAST):
            return here
    command = debian.unpacked(PACKAGES).command("usr/bin/redis-server")
    version = installed.parse_version(installed.version_text(command))
    if version is None:
        raise EmbeddedServerError(f"the downloaded Redis does not run: {' '.join(command)} --version prints no version")
    return Program(command, version)


def _prepare(
    found: Program, data_dir: Path, run_dir: Path, port: int | None, options: Mapping[str, str]
) -> RedisServer:
    data = folder_of(data_dir)
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
    launch = Launch(
        name="Redis",
        command=(*found.command, str(config)),
        log=data / "server.log",
        answers=lambda: _answers(listen, password),
    )
    return RedisServer(
        host=HOST,
        port=listen,
        version=found.version,
        process=ServerProcess(launch),
        password=password,
        data_dir=data,
    )


def _answers(port: int, password: str) -> bool:
    """True when it takes the password and has loaded its data (it answers LOADING until then)."""
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
