"""A cluster of three nats-servers, for streams with three replicas."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
import nats.errors
from nats.js.api import StreamConfig
from nats.js.errors import Error

from binlogsync.servers.nats import find_server
from binlogsync.servers.process import HOST, free_port

_READY_S = 240


@contextmanager
def nats_cluster(folder: Path) -> Iterator[str]:
    """The addresses of the servers, once they can create a stream with three replicas."""
    ports: set[int] = set()
    while len(ports) < 6:
        ports.add(free_port())
    clients, routes = list(ports)[:3], list(ports)[3:]
    told = ",".join(f"nats://{HOST}:{port}" for port in routes)
    servers = [
        subprocess.Popen(
            [
                *find_server().command,
                "-js",
                "-sd",
                str(folder / f"{i}"),
                "-a",
                HOST,
                "-p",
                str(clients[i]),
                "-n",
                f"n{i}",
            ]
            + ["--cluster_name", "c", "--cluster", f"nats://{HOST}:{routes[i]}", "--routes", told]
            + ["-l", str(folder / f"{i}.log")]
        )
        for i in range(3)
    ]
    try:
        url = ",".join(f"nats://{HOST}:{port}" for port in clients)
        asyncio.run(_wait_until_ready(url))
        yield url
    finally:
        for server in servers:
            server.kill()
            server.wait()


async def _wait_until_ready(url: str) -> None:
    until = time.monotonic() + _READY_S
    while True:
        try:
            client = await nats.connect(url.split(","), allow_reconnect=False, connect_timeout=20)
            try:
                context = client.jetstream(timeout=20)
                await context.add_stream(StreamConfig("ready", subjects=["ready"], num_replicas=3))
                await context.delete_stream("ready")
                return
            finally:
                await client.close()
        except (OSError, Error, nats.errors.Error, TimeoutError):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.2)
