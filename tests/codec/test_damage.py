"""Damaged messages decode to valid batches or raise a WireError: never another exception, never unlimited memory.

More cases: python -m tests.codec.damage --count 100000 --seed 1
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from binlogsync.codec.arrow import decode_arrow
from binlogsync.codec.envelope import ARROW, CONTENT_TYPE, JSON, SCHEMA
from binlogsync.codec.tail_messages import BATCH_ID
from binlogsync.errors import BinlogSyncError, PositionError, WireError
from binlogsync.nats.messages import DeliveredMessage, MessageLookups, decode
from binlogsync.position import Checkpoint
from binlogsync.schema import Column, TableSchema
from tests.codec.damage import CASES, schemas, written

ROOT = Path(__file__).parents[2]
_COUNT = 40
_DEEP = 50_000
_JSON = TableSchema("shop", "docs", (Column("id", "int"), Column("doc", "json")), ("id",))


@pytest.mark.slow
def test_generated_damage_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.codec.damage", "--count", str(_COUNT)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["executions"] == _COUNT * len(CASES)


def _read(headers: dict[str, str], body: bytes, schema: TableSchema = _JSON) -> list[Any]:
    return decode([DeliveredMessage(7, headers, body)], MessageLookups(lambda _: schema, lambda _: b""))


@pytest.mark.parametrize("number", range(3))
def test_the_messages_that_are_damaged_are_read_when_they_are_sound(number: int) -> None:
    messages = written(number)
    found = decode(
        messages, MessageLookups(lambda fingerprint: TableSchema.from_json(schemas()[fingerprint]), lambda _: b"")
    )
    read = {sequence for batch in found for sequence in batch.sequences.tolist()}
    assert read == {message.sequence for message in messages}


def test_a_document_of_50000_levels_is_an_error_that_names_the_message() -> None:
    source = {
        "ts_us": 1,
        "server_id": 1,
        "server_uuid": "s",
        "file": "f",
        "pos": 1,
        "row": 0,
        "txn_pos": 1,
        "gtid": None,
    }
    envelope = {"before": None, "source": source, "op": "c", "transaction": {"total_order": 1}}
    text = json.dumps({**envelope, "after": {"id": 1, "doc": "HERE"}})
    headers = {CONTENT_TYPE: JSON, SCHEMA: _JSON.fingerprint, BATCH_ID: "b"}
    assert len(_read(headers, text.replace('"HERE"', "[1]").encode())) == 1
    with pytest.raises(WireError, match="stream sequence 7"):
        _read(headers, text.replace('"HERE"', "[" * _DEEP + "]" * _DEEP).encode())


@pytest.mark.parametrize("read", [TableSchema.from_json, Checkpoint.from_text])
@pytest.mark.parametrize("text", ["[" * _DEEP, "[" * _DEEP + "]" * _DEEP, "[]", "null", "7", '"x"', "{}", "\x00", ""])
def test_a_document_that_is_none(read: Any, text: str) -> None:
    with pytest.raises((WireError, PositionError)) as caught:
        read(text)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "change",
    [
        {"type": "nosuch"},
        {"type": 7},
        {"type": "decimal", "precision": 10**6, "scale": 0},
        {"nullable": "yes"},
        {"labels": [["x"]]},
        {"labels": "x"},
        {"name": None},
        {"name": "other"},
    ],
    ids=str,
)
def test_a_schema_with_columns_that_no_table_has(change: dict[str, Any]) -> None:
    schema = TableSchema("shop", "t", (Column("id", "int"), Column("other", "int")), ("id",))
    document = json.loads(schema.to_json())
    assert TableSchema.from_json(json.dumps(document)) == schema
    document["columns"][0] |= change
    with pytest.raises(WireError, match="not a table schema"):
        TableSchema.from_json(json.dumps(document))


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_buffers_are_refused_before_they_are_read(codec: str) -> None:
    """Compressed buffers: a few bytes could request any amount of memory."""
    body = written(2)[0].payload
    with pa.ipc.open_stream(body) as reader:
        data = reader.read_next_batch()
    assert len(decode_arrow(body)) == len(data)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(data)
    with pytest.raises(WireError, match="compressed"):
        decode_arrow(sink.getvalue())


def test_offsets_past_the_end_of_a_column_are_found() -> None:
    """Arrow would read out of bounds."""
    body = written(2)[0].payload
    found = 0
    for at in range(0, len(body) - 8, 8):
        if int.from_bytes(body[at : at + 4], "little") in range(1, 300):
            try:
                decode_arrow(body[:at] + (1 << 30).to_bytes(4, "little") + body[at + 4 :]).data.to_pylist()
            except BinlogSyncError:
                found += 1
    assert found > 20


def test_a_second_batch_in_a_message_is_not_dropped() -> None:
    with pa.ipc.open_stream(written(2)[0].payload) as reader:
        data = reader.read_next_batch()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write_batch(data)
        writer.write_batch(data)
    headers = {CONTENT_TYPE: ARROW, SCHEMA: "fingerprint", BATCH_ID: "b"}
    with pytest.raises(WireError, match="more than one batch"):
        _read(headers, sink.getvalue().to_pybytes())
