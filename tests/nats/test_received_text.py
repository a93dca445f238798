"""Messages in received protocol text: what the kernel finds is what Python finds, in chunks of any size."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Iterator

import nats
import numpy as np
import pytest
from nats.aio.client import Client

from binlogsync import servers
from binlogsync.codec.tail_messages import is_tail_message
from binlogsync.nats import adapter
from binlogsync.nats.durable import parse_reply
from binlogsync.nats.frame_kernel import CONTENT, DELIVERED, DELIVERY, FINGERPRINT, PLAIN, REPLY, SEQUENCE
from binlogsync.nats.frame_splitter import FrameSplitter
from binlogsync.nats.message_block import MessageBlock, RawMessage
from binlogsync.nats.messages import MessageLookups, decode, decode_block
from binlogsync.nats.received_text import SocketTap
from binlogsync.schema import TableSchema
from tests.certificates import make_certificates
from tests.codec.damage import damaged_bytes, schemas, written
from tests.examples import examples
from tests.nats_commands import PATIENCE_S

ACK = "$JS.ACK.cdc-demo.reader.1.{sequence}.{sequence}.1700000000000000000.9"
LOOKUPS = MessageLookups(lambda fingerprint: TableSchema.from_json(schemas()[fingerprint]), lambda _: b"")


def _frame(headers: dict[str, str], body: bytes, sequence: int, reply: str = ACK, subscription: int = 7) -> bytes:
    lines = b"NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n"
    head = f"HMSG cdc.a.b {subscription} {reply.format(sequence=sequence)} {len(lines)} {len(lines) + len(body)}\r\n"
    return head.encode() + lines + body + b"\r\n"


def _text(number: int = 0, **changes: str | None) -> bytes:
    """The messages of tests.codec.damage as protocol text, with other headers if given."""
    frames = []
    for message in written(number):
        headers = {**message.headers, **{name.replace("_", "-"): value for name, value in changes.items()}}
        own = {name: value for name, value in headers.items() if value is not None}
        frames.append(_frame(own, message.payload, message.sequence))
    return b"".join(frames)


def _split(text: bytes, is_fast: bool = True) -> tuple[list[MessageBlock], list[bytes]]:
    """The blocks of subscription 7, and what is passed on; the slow way does without the kernel."""
    splitter = FrameSplitter()
    blocks: list[MessageBlock] = []
    splitter.add(7, blocks.append)
    if not is_fast:
        splitter._wanted = np.empty(0, np.int64)  # noqa: SLF001
    passed, at = list[bytes](), 0
    while at < len(text):
        begun, at = splitter.take(memoryview(text), at, len(text))
        if at < 0:
            return blocks, [*passed, b"error"]
        if begun == at:
            return blocks, [*passed, text[at:]]
        passed.append(text[begun:at])
    return blocks, passed


def _messages(blocks: list[MessageBlock]) -> list[RawMessage]:
    return [message for block in blocks for message in block.messages()]


def _check(text: bytes) -> int:
    """Compare both ways; returns the number of plain messages."""
    (fast, passed), (slow, passed_slowly) = _split(text), _split(text, is_fast=False)
    assert passed == passed_slowly
    assert _messages(fast) == _messages(slow)
    plain = 0
    for block in fast:
        for row, message in enumerate(block.messages()):
            flags = {flag: row not in block.rows_without(flag) for flag in (DELIVERED, PLAIN)}
            if flags[DELIVERED]:
                numbers = (int(block.column(SEQUENCE)[row]), int(block.column(DELIVERY)[row]))
                assert numbers == parse_reply(message.reply)
                assert message.reply == block.text_of(row, REPLY)
            if flags[PLAIN]:
                plain += 1
                assert is_tail_message(message.headers, numbers[0])
                assert not {"Status", "Cdc-Schema-Change", "Cdc-Object"} & set(message.headers)
                names = (block.text_of(row, CONTENT), block.text_of(row, FINGERPRINT))
                assert names == (message.headers["Content-Type"], message.headers["Cdc-Schema"])
    return plain


@pytest.mark.parametrize("number", range(3))
def test_messages_of_a_tail_are_plain(number: int) -> None:
    text = _text(number)
    assert _check(text) == sum("Cdc-Schema" in message.headers for message in written(number))
    found = decode_block(MessageBlock.join(_split(text)[0]), LOOKUPS)
    expected = decode(written(number), LOOKUPS)
    assert [batch.batch.data.to_pylist() for batch in found] == [batch.batch.data.to_pylist() for batch in expected]
    assert [batch.sequences.tolist() for batch in found] == [batch.sequences.tolist() for batch in expected]


@pytest.mark.parametrize(
    ("changes", "is_plain"),
    [
        ({}, True),
        ({"Nats_Batch_Id": None}, False),
        ({"Nats_Batch_Id": None, "Cdc_Checkpoint": '{"sequence":3}'}, True),
        ({"Cdc_Checkpoint": '{"sequence":4}'}, False),
        ({"Cdc_Checkpoint": '{"sequence":30}'}, False),
        ({"Cdc_Checkpoint": '{"sequence":}'}, True),
        ({"Cdc_Checkpoint": '{"x":1} '}, True),
        ({"Cdc_Checkpoint": '{"sequence":03}'}, True),
        ({"Cdc_Checkpoint": '{"sequence":99999999999999999999}'}, False),
        ({"Cdc_Object": "a" * 64}, False),
        ({"Cdc_Schema_Change": "{}"}, False),
        ({"Content_Type": None}, False),
        ({"Content_Type": "   "}, False),
        ({"Content_Type": "\t"}, False),
        ({"Content_Type": "ä"}, False),
        ({"Content-Types": "x", "Cdc": "y"}, True),
    ],
)
def test_headers_decide_what_is_plain(changes: dict[str, str | None], is_plain: bool) -> None:
    message = next(message for message in written(0) if "Cdc-Schema" in message.headers)
    headers = {**message.headers, **{name.replace("_", "-"): value for name, value in changes.items()}}
    own = {name: value for name, value in headers.items() if value is not None}
    assert _check(_frame(own, message.payload, 3)) == is_plain


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"HMSG cdc", b"HMSG  cdc"),
        (b" 7 ", b" 07 "),
        (b" 7 ", b"\t7 "),
        (b"$JS.ACK.cdc-demo", b"$JS.ACK.hub.account.cdc-demo"),
        (b"$JS.ACK.", b"$JS.ACK."),
        (b"$JS.ACK.cdc-demo", b"_INBOX.x"),
        (b".1700000000000000000.", b".x."),
        (b"NATS/1.0\r\n", b"NATS/1.0 404 No\r\n"),
        (b"Content-Type: ", b"Content-Type:"),
        (b"Content-Type: ", b"Content-Type :"),
        (b"Content-Type: ", b"Content-Type: x\r\nContent-Type: "),
    ],
)
def test_frames_in_another_form(old: bytes, new: bytes) -> None:
    text = _text()
    for changed in (text.replace(old, new), text.replace(old, new, 1)):
        # The sizes no longer fit where a header has changed.
        _check(changed)
    own = [_frame(message.headers, b"x", 5).replace(old, new) for message in written(0)[:2]]
    _check(b"".join(own) + b"+OK\r\nMSG a 8 2\r\nhi\r\nMSG a 7  2\r\nho\r\nPING\r\n")


@pytest.mark.generated
def test_damaged_text_is_split_as_python_splits_it() -> None:
    chance = random.Random(11)
    texts = [_text(number) for number in range(3)]
    for _ in range(examples(200)):
        text = b"+OK\r\n" + chance.choice(texts) + b"PING\r\nMSG other 9 r 2\r\nhi\r\n" + chance.choice(texts)[:3000]
        _check(damaged_bytes(text, chance))


def test_groups_after_messages_are_left_out() -> None:
    texts = (_text(0), _text(1))
    frames = b"".join(part for pair in zip(*(_cut(text) for text in texts), strict=False) for part in pair)
    block = MessageBlock.join(_split(frames)[0])
    for step in (2, 3):
        mask = np.arange(len(block)) % step != 1
        kept = block.select(mask)
        starts = kept.group_starts()
        names = [kept.message(row).headers.get("Content-Type") for row in range(len(kept))]
        for row in range(1, len(kept)):
            assert row in starts or names[row] == names[row - 1]


def _cut(text: bytes) -> list[bytes]:
    return [bytes(block.text[row[0] : row[1]]) for block in _split(text)[0] for row in block.frames.tolist()]


@pytest.mark.parametrize("step", [1, 7, 1000, 300_000])
def test_a_socket_in_chunks_of_any_size(step: int) -> None:
    """More than a buffer holds, a message larger than a buffer, and operations for the client in between."""
    part = _cut(_text())[0] if step == 1 else _text()
    large = b"" if step < 1000 else _frame({"A": "b"}, bytes(range(256)) * 20_000, 1)
    text = (b"+OK\r\n" + part + b"PING\r\n" + large + _frame({}, b"hi", 1, subscription=8)) * (1 if step < 7 else 3)
    expected, passed = _split(text)

    async def feed() -> tuple[list[MessageBlock], bytes]:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        splitter = FrameSplitter()
        blocks: list[MessageBlock] = []
        splitter.add(7, blocks.append)
        SocketTap(writer.transport, reader, splitter, text[:3]).begin()
        theirs.setblocking(False)
        for start in range(3, len(text), step):
            await asyncio.get_running_loop().sock_sendall(theirs, text[start : start + step])
        theirs.close()
        rest = await reader.read()
        writer.close()
        return blocks, rest

    blocks, rest = asyncio.run(feed())
    assert _messages(blocks) == _messages(expected)
    assert rest == b"".join(passed)


@pytest.fixture(scope="module", params=["nats", "tls"])
def connection(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a nats-server without and with TLS, and the file of a CA certificate."""
    files = make_certificates(tmp_path_factory.mktemp("tls"))
    options = {"tls": f'{{ cert_file: "{files.cert}", key_file: "{files.key}" }}'} if request.param == "tls" else {}
    with servers.nats(options=options) as server:
        yield server.url.replace("nats:", f"{request.param}:"), str(files.ca)


@pytest.mark.server
def test_raw_messages_with_and_without_tls(connection: tuple[str, str]) -> None:
    url, ca = connection
    bodies = [bytes([number]) * (number * 9_000) for number in range(100)]

    async def exchange() -> tuple[list[bytes], list[bytes]]:
        context = ssl.create_default_context(cafile=ca) if url.startswith("tls") else None
        client: Client = await nats.connect(url, connect_timeout=PATIENCE_S, tls=context)
        raw, usual = await client.subscribe("raw"), await client.subscribe("usual")
        found: list[bytes] = []
        adapter.receive_raw(client, raw, lambda block: found.extend(block.bodies()))
        for body in bodies:
            await client.publish("raw", body, headers={"a": "b"})
            await client.publish("usual", body[:5])
        received = [(await usual.next_msg(60)).data for _ in bodies]
        await client.flush()
        await client.close()
        return found, received

    found, received = asyncio.run(exchange())
    assert found == bodies
    assert received == [body[:5] for body in bodies]
