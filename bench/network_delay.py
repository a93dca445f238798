"""Publishing over a network with a delay: `json`, one change per message, for several round trips.

    python -m bench.network_delay [CHANGES]

The tail reads a backlog, and stores it, acknowledged and fenced. The baseline sends the same messages, prepared, over a
bare socket: atomic batches of 1,000, fenced only by the sequence, as many in flight as is best. Both go through a proxy
that delays the data in both directions, into streams of the same configuration. They take turns.

The rate is that of publishing: from the times that nats-server gave to two messages, one of the first and one of the
last ones of the stream. So it contains neither the start of a tail (connections, checks, table schemas: each request
takes a round trip) nor the wait for more changes before its last flush. `whole` contains these.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from statistics import median
from typing import BinaryIO

import nats
from nats.aio.client import Client

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
_IN_FLIGHT = (8, 16)
_FIRST, _LAST = 0.02, 0.96  # of the messages, between which the rate is measured
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
            rates: dict[str, list[float]] = defaultdict(list)
            with delayed(server.port, round_trip_ms) as port:
                for number in range(_REPETITIONS):
                    for in_flight in _IN_FLIGHT:
                        rates[f"bare, {in_flight}"].append(publish_bare(server.url, port, messages, in_flight))
                    source = f"delay{int(round_trip_ms)}n{number}"
                    options = JetStreamOptions(url=f"nats://127.0.0.1:{port}")
                    reading = tail_into_jetstream(config, options, source, made)
                    rates["tail"].append(asyncio.run(_rate_and_delete(server.url, subjects.stream_name(source))))
                    rates["whole"].append(reading.changes / reading.seconds)
            found = {name: median(each) for name, each in rates.items()}
            best = max(rate for name, rate in found.items() if name.startswith("bare"))
            line = "  ".join(f"{name}: {rate:7,.0f}/s" for name, rate in found.items())
            print(f"round trip {round_trip_ms:4.0f} ms  {line}  ratio {found['tail'] / best:.2f}", flush=True)  # noqa: T201


def publish_bare(url: str, port: int, messages: Sequence[tuple[SubjectAndHeaders, bytes]], in_flight: int) -> float:
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
        acks = threading.Semaphore(in_flight)
        reader = threading.Thread(target=_read_acks, args=(lines, acks), daemon=True)
        reader.start()
        for text in texts:
            _wait_for(acks)
            connection.sendall(text)
        for _ in range(in_flight):
            _wait_for(acks)
        connection.shutdown(socket.SHUT_RDWR)
        reader.join()
    return asyncio.run(_rate_and_delete(url, name))


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
    """A stream with the configuration of the tail's."""
    client = await nats.connect(url)
    config = JetStreamOptions().stream_spec("bare").config()
    await client.jetstream().add_stream(config.evolve(name=name, subjects=[f"{name}.>"]))
    await client.close()


async def _rate_and_delete(url: str, name: str) -> float:
    """Messages per second between two messages of the stream, which is then deleted."""
    client = await nats.connect(url)
    js = client.jetstream()
    count = (await js.stream_info(name)).state.messages
    first, last = int(count * _FIRST) + 1, int(count * _LAST)
    seconds = await _stored_at(client, name, last) - await _stored_at(client, name, first)
    await js.delete_stream(name)
    await client.close()
    return (last - first) / seconds


async def _stored_at(client: Client, stream: str, sequence: int) -> float:
    """The time that the server gave to a message, in seconds since 1970."""
    request = json.dumps({"seq": sequence}).encode()
    answer = json.loads((await client.request(f"$JS.API.STREAM.MSG.GET.{stream}", request, timeout=10)).data)
    return datetime.fromisoformat(answer["message"]["time"]).timestamp()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
