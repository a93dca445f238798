"""The private names of nats-py that nats/adapter.py uses. A failure means: review the adapter."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path

import nats
import nats.aio.transport
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE

import binlogsync
from binlogsync.nats import adapter as nats_adapter
from binlogsync.nats.adapter import SecureClient
from binlogsync.nats.message_block import MessageBlock, RawMessage
from binlogsync.nats.received_text import SocketTap
from binlogsync.servers import NATSServer
from tests.nats_commands import PATIENCE_S


def test_the_names_are_there_and_take_what_is_given() -> None:
    send, flush = getattr(Client, nats_adapter.SEND_COMMAND), getattr(Client, nats_adapter.FLUSH_PENDING)
    assert inspect.iscoroutinefunction(send)
    assert inspect.iscoroutinefunction(flush)
    assert list(inspect.signature(send).parameters)[:2] == ["self", "cmd"]
    assert "force_flush" in inspect.signature(flush).parameters


def test_the_handshake_asks_before_it_sends_credentials() -> None:
    connecting = inspect.getsource(getattr(Client, "_process_connect_init"))  # noqa: B009
    looks = connecting.index("self._process_info(srv_info")
    upgrades = connecting.index('self._server_info["tls_required"]')
    sends = connecting.index("self._connect_command()")
    assert looks < upgrades < sends
    assert "self._server_info = srv_info" in connecting[:looks]
    assert "write(" not in connecting[:sends]
    for name in ("_process_info", "_connect_command", "_process_connect_init"):
        assert getattr(SecureClient, name) is not getattr(Client, name)


@pytest.mark.server
def test_what_the_socket_takes_at_once_is_asked_of_names_that_are_there(nats_server: NATSServer) -> None:
    async def look() -> tuple[list[bytes], int, int]:
        client = await nats.connect(nats_server.url, connect_timeout=PATIENCE_S)
        writer = getattr(getattr(client, nats_adapter.TRANSPORT), nats_adapter.WRITER)
        pending = getattr(client, nats_adapter.PENDING)
        found = (pending, writer.transport.get_write_buffer_size(), writer.get_extra_info("socket").fileno())
        await client.close()
        return found

    pending, waiting, number = asyncio.run(look())
    assert (pending, waiting) == ([], 0)
    assert number > 0


@pytest.mark.server
def test_framed_text_arrives_in_order_with_what_is_published(nats_server: NATSServer) -> None:
    large = b"x" * 700_000

    async def exchange() -> list[bytes]:
        client = await nats.connect(nats_server.url, connect_timeout=PATIENCE_S)
        subscription = await client.subscribe("adapter.>")
        await client.publish("adapter.a", b"first")
        text = b"".join(b"PUB adapter.b %d\r\n%b\r\n" % (len(body), body) for body in [b"second", *[large] * 8])
        await nats_adapter.send_framed(client, memoryview(text))
        for _ in range(8):  # more than the socket accepts at once, in parts
            await nats_adapter.send_framed(client, b"PUB adapter.c %d\r\n" % len(large), memoryview(large), b"\r\n")
        await client.publish("adapter.a", b"last")
        received = [(await subscription.next_msg(60)).data for _ in range(19)]
        await client.close()
        return received

    assert asyncio.run(exchange()) == [b"first", b"second", *[large] * 16, b"last"]


@pytest.mark.server
def test_texts_of_other_threads_arrive_complete_and_in_order(nats_server: NATSServer) -> None:
    """Also while the event loop writes more than the socket accepts at once; then `send_now` may refuse a text."""
    sizes = [3, 200_000, 900_000]

    async def exchange() -> tuple[list[bytes], list[bytes], bool]:
        client, receiver = [await nats.connect(nats_server.url, connect_timeout=PATIENCE_S) for _ in range(2)]
        subscription = await receiver.subscribe("threads.*")
        await receiver.flush()
        await nats_adapter.subscribe_raw(client, "unused", lambda _: None)
        await client.flush()
        sent: list[bytes] = []

        def send() -> None:
            for number in range(60):
                body = b"%d:" % number + b"t" * sizes[number % 3]
                if nats_adapter.send_now(client, b"PUB threads.t %d\r\n%b\r\n" % (len(body), body)):
                    sent.append(body)

        is_ready = nats_adapter.can_send_now(client)
        sending = asyncio.get_running_loop().run_in_executor(None, send)
        for _ in range(20):
            await nats_adapter.send_framed(client, b"PUB threads.l 900000\r\n", memoryview(b"l" * 900_000), b"\r\n")
            await client.publish("threads.l", b"small")
        await sending
        await client.flush(60)
        received = [await subscription.next_msg(60) for _ in range(40 + len(sent))]
        await client.close()
        await receiver.close()
        assert not nats_adapter.send_now(client, b"PING\r\n")
        return [each.data for each in received if each.subject == "threads.t"], sent, is_ready

    received, sent, is_ready = asyncio.run(exchange())
    assert is_ready
    assert received == sent


def test_the_parser_is_what_the_splitter_stands_before() -> None:
    client = Client()
    parser = getattr(client, nats_adapter.PARSER)
    assert (parser.buf, parser.state) == (bytearray(), AWAITING_CONTROL_LINE)
    assert inspect.iscoroutinefunction(parser.parse)
    assert getattr(Subscription(client, 7), nats_adapter.SUBSCRIPTION_ID) == 7
    # The client looks up `parse` on the parser at each call, so that a replacement takes effect.
    assert f"self.{nats_adapter.PARSER}.parse(" in inspect.getsource(Client)


@pytest.mark.server
def test_a_connection_that_receives_raw_does_so_into_own_buffers(nats_server: NATSServer) -> None:
    async def look() -> tuple[int, int, int]:
        client = await nats.connect(nats_server.url, connect_timeout=PATIENCE_S)
        transport = getattr(client, nats_adapter.TRANSPORT)
        reader = getattr(transport, nats_adapter.READER)
        assert isinstance(getattr(reader, nats_adapter.RECEIVED), bytearray)
        before = getattr(reader, nats_adapter.LIMIT)
        sizes: list[int] = []
        all_here = asyncio.Event()

        def take(block: MessageBlock) -> None:
            sizes.extend(len(body) for body in block.bodies())
            if len(sizes) == 20:
                all_here.set()

        nats_adapter.receive_raw(client, await client.subscribe("wide.>"), take)
        assert isinstance(getattr(transport, nats_adapter.WRITER).transport.get_protocol(), SocketTap)
        read, longest = transport.read, [0]

        async def count(size: int) -> bytes:
            data: bytes = await read(size)
            longest[0] = max(longest[0], len(data))
            return data

        transport.read = count
        for _ in range(20):
            await client.publish("wide.a", b"x" * 900_000)
        await asyncio.wait_for(all_here.wait(), 60)
        await client.close()
        assert sizes == [900_000] * 20
        return before, getattr(reader, nats_adapter.LIMIT), longest[0]

    before, limit, longest = asyncio.run(look())
    assert before < limit
    assert longest < 100_000


@pytest.mark.server
def test_raw_messages_come_in_order_and_others_as_ever(nats_server: NATSServer) -> None:
    sizes = [0, 3, 70_000, 1, 400_000, 5]

    async def exchange() -> tuple[list[RawMessage], list[bytes]]:
        client = await nats.connect(nats_server.url, connect_timeout=PATIENCE_S)
        raw, usual = await client.subscribe("raw.>"), await client.subscribe("usual.>")
        found: list[RawMessage] = []
        nats_adapter.receive_raw(client, raw, lambda block: found.extend(block.messages()))
        for number, size in enumerate(sizes):
            await client.publish(f"raw.{number}", b"\r\n" * size, reply="answer", headers={"One": "1", "Two": "a: b"})
            await client.publish("usual.a", b"MSG %d" % number)
            await client.publish("raw.plain", b"MSG x 1 3\r\nabc")
        received = [(await usual.next_msg(60)).data for _ in sizes]
        await client.flush()
        nats_adapter.stop_receiving(client, raw)
        await client.publish("raw.late", b"")
        await client.flush()
        await client.close()
        return found, received

    found, received = asyncio.run(exchange())
    assert received == [b"MSG %d" % number for number in range(len(sizes))]
    expected = []
    for number, size in enumerate(sizes):
        expected.append((f"raw.{number}", "answer", {"One": "1", "Two": "a: b"}, b"\r\n" * size))
        expected.append(("raw.plain", "", {}, b"MSG x 1 3\r\nabc"))
    assert found == expected


@pytest.mark.parametrize("step", [1, 2, 7, 64, 10_000])
def test_text_in_any_chunks(step: int) -> None:
    text = b"+OK\r\nMSG a 7 2\r\nhi\r\nPONG\r\nHMSG b 7 r.1 12 14\r\nNATS/1.0\r\n\r\nho\r\n"
    text += b"HMSG c 7 16 16\r\nNATS/1.0 404\r\n\r\n\r\n"
    found: list[RawMessage] = []

    async def feed() -> None:
        client = Client()
        nats_adapter.receive_raw(client, Subscription(client, 7), lambda block: found.extend(block.messages()))
        for start in range(0, len(text), step):
            await getattr(client, nats_adapter.PARSER).parse(text[start : start + step])

    asyncio.run(feed())
    status = {"Status": "404", "Description": ""}
    assert found == [("a", "", {}, b"hi"), ("b", "r.1", {}, b"ho"), ("c", "", status, b"")]


@pytest.mark.server
def test_a_closed_connection_says_so(nats_server: NATSServer) -> None:
    async def send() -> None:
        client = await nats.connect(nats_server.url, connect_timeout=PATIENCE_S)
        await client.close()
        await nats_adapter.send_framed(client, memoryview(b"PUB a 0\r\n\r\n"))

    with pytest.raises(nats.errors.ConnectionClosedError):
        asyncio.run(send())


def test_the_names_of_the_handshake_are_there() -> None:
    client = SecureClient(requires_tls=True)
    assert getattr(client, nats_adapter.TRANSPORT) is None
    assert client._current_server is None  # noqa: SLF001
    source = inspect.getsource(nats.aio.transport.TcpTransport)
    for name in (nats_adapter.WRITER, nats_adapter.BARE_WRITER, nats_adapter.READER):
        assert f"self.{name} = " in source, name
    handshake = inspect.signature(getattr(Client, "_process_info"))  # noqa: B009
    assert list(handshake.parameters) == ["self", "info", "initial_connection"]


def test_no_other_file_touches_private_names_of_the_client() -> None:
    names = [value for name, value in vars(nats_adapter).items() if name.isupper() and isinstance(value, str)]
    assert len(names) == 11
    private = re.compile(
        rf"\b(client|nc|subscription|transport|_client|_subscription)\._[a-z]|\"({'|'.join(names)})\"|\(Client\):"
    )
    adapter = Path(nats_adapter.__file__)
    for file in Path(inspect.getfile(binlogsync)).parent.rglob("*.py"):
        if file != adapter:
            assert not private.search(file.read_text()), file
