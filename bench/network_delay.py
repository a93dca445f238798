"""Publishing over a network with a delay: `json`, one change per message, for several round trips.

    python -m bench.network_delay [CHANGES]

The tail reads a backlog, and stores it, acknowledged and fenced. The baseline sends the same messages, prepared, over a
bare socket: atomic batches of 1,000, several in flight, fenced only by the sequence. Both go through a proxy that
delays the data in both directions. They take turns.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from statistics import median
from typing import BinaryIO

import nats
from nats.js.api import StorageType, StreamConfig

from bench.delay_proxy import delayed
from bench.publishing import prepare_messages
from bench.readers import tail_into_jetstream
from bench.workload import BULK, fill
from binlogsync import servers
from binlogsync.codec import subjects
from binlogsync.mysql import TLS, MySQLConfig
from binlogsync.nats.protocol_text import SubjectAndHeaders, encode_header
from binlogsync.sinks.jetstream import JetStreamOptions

ROUND_TRIPS_MS = (0.0, 1.0, 5.0, 20.0)
_REPETITIONS = 3
_IN_FLIGHT = 8
_BATCH = 1000
_ACK_TIMEOUT_S = 60.0


def main(changes: int) -> None:
    """Print a line for each round trip."""
    with (
        servers.mysql(options={"innodb_flush_log_at_trx_commit": "2", "sync_binlog": "0"}) as mysql,
        servers.nats() as server,
    ):
        config = MySQLConfig(
            host=mysql.host, port=mysql.port, user=mysql.user, password=mysql.password, tls=TLS("disabled")
        )
        made = fill(mysql.connect(), BULK, changes)
        ready = prepare_messages(config, JetStreamOptions(url=server.url), made, made)
        messages = [message for batch in ready.batches for message in batch]
        for round_trip_ms in ROUND_TRIPS_MS:
            rates: dict[str, list[float]] = {"bare": [], "tail": []}
            with delayed(server.port, round_trip_ms) as port:
                for number in range(_REPETITIONS):
                    rates["bare"].append(publish_bare(server.url, port, messages))
                    source = f"delay{int(round_trip_ms)}n{number}"
                    reading = tail_into_jetstream(
                        config, JetStreamOptions(url=f"nats://127.0.0.1:{port}"), source, made
                    )
                    rates["tail"].append(reading.changes / reading.seconds)
                    asyncio.run(_delete(server.url, subjects.stream_name(source)))
            bare, tail = (median(rates[name]) for name in ("bare", "tail"))
            found = f"bare {bare:8,.0f}/s, tail {tail:8,.0f}/s, ratio {tail / bare:.2f}"
            print(f"round trip {round_trip_ms:4.0f} ms: {found}", flush=True)  # noqa: T201


def publish_bare(url: str, port: int, messages: Sequence[tuple[SubjectAndHeaders, bytes]]) -> float:
    """Publish to a new stream over a bare socket; returns messages per second."""
    name = f"bare-{uuid.uuid4().hex}"
    asyncio.run(_create(url, name))
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as lines:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines.readline()
        connection.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB acks.* 1\r\nPING\r\n')
        while lines.readline() != b"PONG\r\n":
            pass
        texts = list(_encode_batches(f"{name}.a", messages))
        acks, begun = threading.Semaphore(_IN_FLIGHT), time.perf_counter()
        reader = threading.Thread(target=_read_acks, args=(lines, acks), daemon=True)
        reader.start()
        for text in texts:
            _wait_for(acks)
            connection.sendall(text)
        for _ in range(_IN_FLIGHT):
            _wait_for(acks)
        seconds = time.perf_counter() - begun
        connection.shutdown(socket.SHUT_RDWR)
        reader.join()
    asyncio.run(_delete(url, name))
    return len(messages) / seconds


def _encode_batches(subject: str, messages: Sequence[tuple[SubjectAndHeaders, bytes]]) -> list[bytes]:
    found = []
    for start in range(0, len(messages), _BATCH):
        batch, name, parts = messages[start : start + _BATCH], uuid.uuid4().hex, list[bytes]()
        for number, (head, body) in enumerate(batch, 1):
            headers = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(number)}
            headers |= {"Nats-Expected-Last-Sequence": str(start)} if number == 1 else {}
            headers |= {"Nats-Batch-Commit": "1"} if number == len(batch) else {}
            reply = f"acks.{start}" if number == len(batch) else ""
            parts += [encode_header(head._replace(subject=subject), headers, reply, len(body)), body, b"\r\n"]
        found.append(b"".join(parts))
    return found


def _read_acks(lines: BinaryIO, acks: threading.Semaphore) -> None:
    with suppress(OSError):
        while line := lines.readline():
            if line.startswith(b"MSG "):
                if b'"error"' in (answer := lines.readline()):
                    sys.stderr.write(f"the bare loop was refused: {answer!r}\n")
                    return
                acks.release()


def _wait_for(acks: threading.Semaphore) -> None:
    if not acks.acquire(timeout=_ACK_TIMEOUT_S):
        raise SystemExit("the bare loop got no acknowledgement")


async def _create(url: str, name: str) -> None:
    client = await nats.connect(url)
    config = StreamConfig(name, subjects=[f"{name}.>"], storage=StorageType.FILE, allow_atomic=True, allow_direct=True)
    await client.jetstream().add_stream(config)
    await client.close()


async def _delete(url: str, name: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().delete_stream(name)
    await client.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
