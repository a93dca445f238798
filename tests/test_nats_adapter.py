"""The private names of nats-py that one file relies on. A failure here means: read nats_adapter.py."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client

import binlogsync
from binlogsync import nats_adapter
from binlogsync.embedded import NATSServer


def test_the_names_are_there_and_take_what_is_given() -> None:
    send, flush = getattr(Client, nats_adapter.SEND_COMMAND), getattr(Client, nats_adapter.FLUSH_PENDING)
    assert inspect.iscoroutinefunction(send)
    assert inspect.iscoroutinefunction(flush)
    assert list(inspect.signature(send).parameters)[:2] == ["self", "cmd"]
    assert "force_flush" in inspect.signature(flush).parameters


@pytest.mark.server
def test_framed_text_arrives_in_order_with_what_is_published(nats_server: NATSServer) -> None:
    large = b"x" * 700_000

    async def exchange() -> list[bytes]:
        client = await nats.connect(nats_server.url)
        subscription = await client.subscribe("adapter.>")
        await client.publish("adapter.a", b"first")
        text = b"".join(b"PUB adapter.b %d\r\n%b\r\n" % (len(body), body) for body in [b"second", *[large] * 8])
        await nats_adapter.send_framed(client, memoryview(text))
        await client.publish("adapter.a", b"last")
        received = [(await subscription.next_msg(20)).data for _ in range(11)]
        await client.close()
        return received

    assert asyncio.run(exchange()) == [b"first", b"second", *[large] * 8, b"last"]


@pytest.mark.server
def test_a_closed_connection_says_so(nats_server: NATSServer) -> None:
    async def send() -> None:
        client = await nats.connect(nats_server.url)
        await client.close()
        await nats_adapter.send_framed(client, memoryview(b"PUB a 0\r\n\r\n"))

    with pytest.raises(nats.errors.ConnectionClosedError):
        asyncio.run(send())


def test_no_other_file_touches_private_names_of_the_client() -> None:
    for file in Path(inspect.getfile(binlogsync)).parent.rglob("*.py"):
        if file.name != "nats_adapter.py":
            assert not re.search(r"\b(client|nc|subscription)\._[a-z]", file.read_text()), file
