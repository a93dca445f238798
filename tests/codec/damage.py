"""Decoding of damaged messages: `python -m tests.codec.damage --count 100000 --seed 1`.

Each case takes what the tail writes (a message in one of the formats, a schema change, a schema document, a checkpoint,
or the protocol text that brings messages) and damages its bytes, its JSON tree, its headers or its Arrow columns. It
passes when decoding returns valid batches or raises a WireError.

It runs in a separate process with a memory limit, so that neither a crash nor a huge allocation ends the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import json
import logging
import random
import re
import resource
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import nats.errors
import pyarrow as pa
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from binlogsync.change import SchemaChange
from binlogsync.change_batch import build_schema_batch
from binlogsync.codec.envelope import (
    ARROW,
    CHECKPOINT,
    CONTENT_TYPE,
    JSON,
    JSON_LINES,
    SCHEMA,
    SCHEMA_CHANGE,
    EnvelopeContext,
    encode_schema_change,
    render,
)
from binlogsync.codec.tail_messages import BATCH_ID
from binlogsync.errors import BinlogSyncError
from binlogsync.nats import adapter
from binlogsync.nats.durable import delivery_numbers
from binlogsync.nats.frame_splitter import FrameSplitter
from binlogsync.nats.message_block import MessageBlock
from binlogsync.nats.messages import DeliveredMessage, MessageLookups, StreamBatch, decode, decode_block
from binlogsync.nats.unusual_messages import count_decodable
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.sinks.jetstream.messages import publish_units
from binlogsync.sinks.jetstream.packing import PackingOptions
from tests.samples import SampleOptions, sample_flush

_MEMORY = 6 << 30
_FLUSH = sample_flush(4, SampleOptions(impossible=True))
_PACKINGS = (PackingOptions("json"), PackingOptions("json", changes_per_message=4), PackingOptions("arrow"))


@cache
def written(number: int) -> list[DeliveredMessage]:
    """The messages of a flush in one of the formats."""
    found: list[DeliveredMessage] = []
    for piece in publish_units(_FLUSH, _PACKINGS[number], 1_700_000_000_000_000):
        for i in range(len(piece)):
            headers = {**piece.head(i).headers, BATCH_ID: "b"}  # which identifies a tail's message
            found.append(DeliveredMessage(len(found) + 1, headers, piece.payload(i), "reply"))
    return found


@cache
def schemas() -> dict[str, str]:
    """Fingerprint -> document."""
    return {batch.schema.fingerprint: batch.schema.to_json() for batch in _FLUSH.batches}


@cache
def schema_change() -> str:
    """The header of a schema change."""
    ddl = SchemaChange(
        "alter", (("a", "b"),), "ALTER TABLE b ADD c INT", 0, BinlogPosition("f.000001", 9), None, 7, "a"
    )
    place = {"gtid": None, "file": "f.000001", "pos": 9, "row": 0, "txn_pos": 4, "order": 0, "ts_us": 7, "seq": 0}
    return encode_schema_change(build_schema_batch(ddl, ("a", "b"), place, ("server", 1)))


# Damage


def damaged_bytes(raw: bytes, chance: random.Random) -> bytes:
    """The text with bytes flipped, overwritten, removed, repeated or inserted."""
    damaged = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at, size = chance.randrange(len(damaged) + 1), chance.choice((1, 1, 2, 8, 60))
        way = chance.randrange(6)
        if way == 0 and at < len(damaged):
            damaged[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            damaged[at : at + size] = chance.choice((b"\0", b"\xff", b"9", b"[", b'"')) * size
        elif way == 2:
            del damaged[at : at + size]
        elif way == 3:
            damaged[at:at] = chance.randbytes(size)
        elif way == 4:
            damaged[at:at] = damaged[at // 2 : at]
        else:
            del damaged[at:]
    return bytes(damaged)


_HOSTILE: tuple[Callable[[random.Random], Any], ...] = (
    lambda _: None,
    lambda _: {},
    lambda _: [],
    lambda _: "",
    lambda _: True,
    lambda chance: chance.choice((-1, 0, 2**31, 2**63, 2**64, 10**30, -(10**400), 1.5, 1e308)),
    lambda chance: chance.choice(("\0", "\ud800", "ä" * 999, "0000-00-00", "-838:59:59", "1e9999999", "null", "*.>")),
    lambda _: _nested(50_000),
    lambda _: {"a": {"b": []}},
    lambda _: [["x", "y", "z"], 7],
)


def _nested(depth: int) -> Any:
    return json.loads("[" * 200 + "]" * 200) if depth < 200 else _Nested(depth)


class _Nested(str):
    """Placeholder for so many nested brackets in the text."""

    def __new__(cls, depth: int) -> _Nested:
        return super().__new__(cls, f"<nested {depth}>")


def _text(tree: Any) -> bytes:
    text = json.dumps(tree)
    return text.replace('"<nested 50000>"', "[" * 50_000 + "]" * 50_000).encode()


def damaged_tree(raw: bytes, chance: random.Random) -> bytes:
    """The JSON document with nodes replaced, removed or renamed."""
    tree = json.loads(raw)
    for _ in range(chance.choice((1, 1, 1, 3))):
        node, key = tree, None
        parent: Any = None
        while isinstance(node, dict | list) and node and (parent is None or chance.random() < 0.8):
            parent = node
            key = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
            node = parent[key]
        if parent is None:
            return _text(chance.choice(_HOSTILE)(chance))
        way = chance.random()
        if way < 0.15:
            del parent[key]
        elif way < 0.25 and isinstance(parent, dict):
            parent[str(key) + "x"] = parent.pop(key)
        else:
            parent[key] = chance.choice(_HOSTILE)(chance)
    return _text(tree)


def _damaged_text(text: str, chance: random.Random) -> str:
    way = damaged_tree if chance.random() < 0.7 else damaged_bytes
    return way(text.encode(), chance).decode(errors="replace")


# Cases


def _read(messages: list[DeliveredMessage], documents: dict[str, str]) -> str:
    def schema(fingerprint: str) -> TableSchema:
        return TableSchema.from_json(documents.get(fingerprint, "{}"))

    lookups = MessageLookups(schema, lambda _: b"{}")
    try:
        found = decode(messages, lookups)
    except BinlogSyncError as error:
        _compare(messages, lookups, str(error))
        raise
    _compare(messages, lookups, found)
    for item in found:
        item.batch.data.validate(full=True)
        item.batch.data.to_pylist()
        for texts in item.batch.impossible.values():
            texts.validate(full=True)
        if item.batch.ddl is None:
            render(item.batch, EnvelopeContext("damage", 0))
    return "read"


def _compare(messages: list[DeliveredMessage], lookups: MessageLookups, expected: list[StreamBatch] | str) -> None:
    """The messages as protocol text must decode to equal batches, or raise the same error."""
    if any(value != value.strip() or not value.isprintable() for m in messages for value in m.headers.values()):
        return  # no header of nats-server
    blocks: list[MessageBlock] = []
    splitter = FrameSplitter()
    splitter.add(7, blocks.append)
    text = memoryview(b"".join(map(_protocol_text, messages)))
    assert splitter.take(text, 0, len(text)) == (len(text), len(text))
    block = delivery_numbers(MessageBlock.join(blocks))
    count_decodable(block)
    found: list[StreamBatch] | str
    try:
        found = decode_block(block, lookups)
    except BinlogSyncError as error:
        found = str(error)
    if isinstance(expected, str) or isinstance(found, str):
        # Only some of the messages may be named, with other numbers.
        texts = [one if isinstance(one, str) else "" for one in (found, expected)]
        assert len({re.sub(r"\d+", "", text.partition(": ")[2]) for text in texts}) == 1, texts
        return
    # A batch may be cut in several.
    rows = [
        [(repr(row), number) for item in items for row, number in zip(_rows(item), item.sequences, strict=True)]
        for items in (found, expected)
    ]
    assert rows[0] == rows[1]


def _rows(item: StreamBatch) -> list[Any]:
    return list(item.batch.data.to_pylist()) if item.batch.ddl is None else [item.batch.ddl]


def _protocol_text(message: DeliveredMessage) -> bytes:
    """The message as nats-server delivers it."""
    lines = "".join(f"{key}: {value}\r\n" for key, value in message.headers.items()).encode()
    head = b"NATS/1.0\r\n" + lines + b"\r\n"
    reply = f"$JS.ACK.s.c.1.{message.sequence}.{message.sequence}.1.0"
    sizes = f"{len(head)} {len(head) + len(message.payload)}"
    return f"HMSG a.b 7 {reply} {sizes}\r\n".encode() + head + message.payload + b"\r\n"


def _body(chance: random.Random) -> str:
    messages = list(written(chance.randrange(3)))
    at = chance.randrange(len(messages))
    old = messages[at]
    is_json = old.headers[CONTENT_TYPE] == JSON
    body = (damaged_tree if is_json and chance.random() < 0.7 else damaged_bytes)(old.payload, chance)
    messages[at] = DeliveredMessage(old.sequence, old.headers, body, old.reply)
    return _read(messages, schemas())


def _headers(chance: random.Random) -> str:
    messages = list(written(chance.randrange(3)))
    at = chance.randrange(len(messages))
    old = messages[at]
    headers = dict(old.headers)
    name = chance.choice((SCHEMA, CONTENT_TYPE, SCHEMA_CHANGE, "Cdc-Object", "Cdc-Object-Size"))
    if name in headers and chance.random() < 0.3:
        del headers[name]
    else:
        headers[name] = chance.choice((ARROW, JSON, JSON_LINES, "", "x" * 9000, "\x00", "a b", "..", "9" * 5000))
    messages[at] = DeliveredMessage(old.sequence, headers, old.payload, old.reply)
    return _read(messages, schemas())


def _schema(chance: random.Random) -> str:
    documents = {key: _damaged_text(text, chance) for key, text in schemas().items()}
    return _read(written(chance.randrange(2)), documents)


def _schema_change(chance: random.Random) -> str:
    return _read([DeliveredMessage(1, {SCHEMA_CHANGE: _damaged_text(schema_change(), chance)}, b"")], schemas())


def _checkpoint(chance: random.Random) -> str:
    Checkpoint.from_text(_damaged_text(_FLUSH.checkpoint.to_text(), chance))
    return "read"


def _arrow(chance: random.Random) -> str:
    """Arrow data with missing or reordered columns, other types, or other metadata."""
    old = written(2)[0]
    with pa.ipc.open_stream(old.payload) as reader:
        data = reader.read_next_batch()
    way = chance.randrange(6)
    at = chance.randrange(data.num_columns)
    name = data.schema.names[at]
    options = None
    if way == 0:
        data = data.remove_column(at)
    elif way == 1:
        data = data.set_column(at, name, chance.choice((pa.nulls(len(data)), pa.array(["x"] * len(data)))))
    elif way == 2:
        data = data.append_column(
            chance.choice(("x", "impossible.a", "impossible.after.c_date", name)), data.column(at)
        )
    elif way == 3:
        metadata = dict(data.schema.metadata)
        key = chance.choice(list(metadata))
        metadata[key] = chance.choice((b"", b"\xff", b"x", damaged_tree(metadata[b"cdc.schema"], chance)))
        data = data.replace_schema_metadata(metadata)
    elif way == 4:
        data = data.replace_schema_metadata(None)
    else:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema, options=options) as writer:
        for _ in range(chance.choice((0, 1, 1, 2))):
            writer.write_batch(data)
    body = sink.getvalue().to_pybytes()
    return _read([DeliveredMessage(1, old.headers, body, "reply")], schemas())


def _protocol(chance: random.Random) -> str:
    """Protocol text of the server for a subscription that receives raw messages."""
    text = b"+OK\r\n"
    for message in written(0)[:3]:
        head = "NATS/1.0\r\n" + "".join(f"{key}: {value}\r\n" for key, value in message.headers.items()) + "\r\n"
        head += CHECKPOINT
        size = len(head) + len(message.payload)
        text += f"HMSG a.b 7 r.1.2 {len(head)} {size}\r\n{head}".encode() + message.payload + b"\r\n"
    raw = damaged_bytes(text, chance)
    step = chance.choice((7, 1000, 100_000))

    async def feed() -> None:
        client = Client()
        adapter.receive_raw(client, Subscription(client, 7), lambda _: None)
        for start in range(0, len(raw), step):
            await getattr(client, adapter.PARSER).parse(raw[start : start + step])

    try:
        asyncio.run(feed())
    except (nats.errors.ProtocolError, nats.errors.Error):
        return "error"
    except (AssertionError, AttributeError):
        return "nats-py"  # the client's reply to PING, INFO or -ERR while it is not connected
    return "read"


CASES: dict[str, Callable[[random.Random], str]] = {
    "body": _body,
    "headers": _headers,
    "schema": _schema,
    "schema_change": _schema_change,
    "checkpoint": _checkpoint,
    "arrow": _arrow,
    "protocol": _protocol,
}


def run_case(kind: str, seed: int) -> str:
    """Run one case; raises any exception other than the expected ones."""
    try:
        return CASES[kind](random.Random(f"{kind} {seed}"))
    except BinlogSyncError as error:
        size = len(str(error))
    assert size < 5000, f"an error of {size} characters"
    return "error"


def main() -> None:
    """Run the cases seed..seed+count-1 of each kind; prints their results, and the findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=CASES, nargs="*", default=list(CASES))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case-timeout", type=float, default=60.0)
    arguments = parser.parse_args()
    faulthandler.enable()
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    ends: Counter[str] = Counter()
    finds: dict[str, str] = {}
    for kind in arguments.kind:
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            faulthandler.dump_traceback_later(arguments.case_timeout, exit=True)
            try:
                ends[f"{kind} {run_case(kind, seed)}"] += 1
            except Exception as error:  # noqa: BLE001 - any other exception is a finding
                finds[f"{kind} {seed}"] = traceback.format_exc()[-1500:]
                print(f"{kind} {seed}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)  # noqa: T201
    print(json.dumps({"executions": arguments.count * len(arguments.kind), "finds": finds, "ends": ends}))  # noqa: T201
    sys.exit(bool(finds))


if __name__ == "__main__":
    main()
