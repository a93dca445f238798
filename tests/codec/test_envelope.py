"""Envelopes and Arrow messages contain all data of a batch, and decode to an equal batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogsync.change_batch import ChangeBatch, build_batch
from binlogsync.codec.envelope import (
    JSON,
    JSON_LINES,
    EnvelopeContext,
    count_changes,
    decode_arrow,
    encode_arrow,
    render,
)
from binlogsync.codec.json_decoder import parse
from binlogsync.errors import WireError
from binlogsync.schema import Column, TableSchema
from binlogsync.server_version import ServerFlavor
from tests.examples import examples
from tests.samples import SampleOptions, SampleSource, sample_batch, sample_schema

CONTEXT = EnvelopeContext("demo", 1_700_000_100_123_456)
SCHEMA = TableSchema("shop", "odd name", (Column("id", "int"), Column('q"\n', "text"), Column("doc", "json")))
FULL = SCHEMA.image_type()


def _batch(changes: list[tuple[str, Any, Any]], schema: TableSchema = SCHEMA, **more: Any) -> ChangeBatch:
    count = len(changes)
    images = tuple(
        pa.array([c[i] for c in changes], more.get(name, schema.image_type()))
        for i, name in ((1, "before"), (2, "after"))
    )
    source = {
        "ts_us": pa.array(range(10**15, 10**15 + count), pa.int64()),
        "gtid": more.get("gtid", ["0-1-7"] * count),
        "file": ["binlog.000003"] * count,
        "pos": [2**40 + i for i in range(count)],
        "row": [0] * count,
        "txn_pos": [157] * count,
        "order": list(range(count)),
        "seq": list(range(count)),
    }
    server = more.get("server", ("mariadb:7", 7))
    return build_batch(schema, [c[0] for c in changes], (images[0], images[1]), source, server)


def _same(one: ChangeBatch, other: ChangeBatch) -> None:
    assert one.schema == other.schema
    assert (one.server_uuid, one.server_id) == (other.server_uuid, other.server_id)
    assert one.data.schema.names == other.data.schema.names
    for name in one.data.schema.names:
        if name != "seq":
            assert one.data.column(name).type == other.data.column(name).type, name
            assert one.data.column(name).to_pylist() == other.data.column(name).to_pylist(), name
    texts = [
        {key: value.to_pylist() for key, value in batch.impossible.items() if value.null_count < len(value)}
        for batch in (one, other)
    ]
    assert texts[0] == texts[1]


def test_an_envelope_in_full() -> None:
    batch = _batch([("u", {"id": 1, 'q"\n': "x", "doc": None}, {"id": 2, 'q"\n': None, "doc": '{"a": 1.50}'})])
    [text] = render(batch, CONTEXT).texts()
    assert b'"doc":{"a": 1.50}' in text
    assert orjson.loads(text) == {
        "before": {"id": 1, 'q"\n': "x", "doc": None},
        "after": {"id": 2, 'q"\n': None, "doc": {"a": 1.5}},
        "source": {
            "version": "1",
            "connector": "mariadb",
            "name": "demo",
            "ts_ms": 10**12,
            "ts_us": 10**15,
            "snapshot": "false",
            "db": "shop",
            "table": "odd name",
            "server_id": 7,
            "server_uuid": "mariadb:7",
            "gtid": "0-1-7",
            "file": "binlog.000003",
            "pos": 2**40,
            "row": 0,
            "txn_pos": 157,
        },
        "op": "u",
        "ts_ms": 1_700_000_100_123,
        "ts_us": 1_700_000_100_123_456,
        "transaction": {"id": "0-1-7", "total_order": 1},
    }


@pytest.mark.generated
@settings(max_examples=examples(15), deadline=None)
@given(st.integers(1, 60), st.booleans(), st.data())
def test_every_type_reads_back(count: int, impossible: bool, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, count - 1))
    batch = sample_batch(count, impossible=impossible).slice(start, count)
    texts = render(batch, CONTEXT).texts()
    for text in texts:
        orjson.loads(text)
        assert b"\n" not in text
    [back] = parse(texts, batch.schema)
    _same(back, batch)
    _same(decode_arrow(encode_arrow(batch)), batch)


def test_servers_without_gtids_and_mariadb_read_back() -> None:
    for flavor in (None, ServerFlavor.MARIADB):
        options = SampleOptions(flavor=flavor)
        for batch in SampleSource(options).flush(9).batches:
            [back] = parse(render(batch, CONTEXT).texts(), batch.schema)
            _same(back, batch)


def test_without_gtids_the_transaction_is_named_by_its_place() -> None:
    batch = _batch([("t", None, None)], gtid=[None])
    envelope = orjson.loads(render(batch, CONTEXT).texts()[0])
    assert envelope["transaction"]["id"] == "binlog.000003:157"
    assert envelope["source"]["gtid"] is None
    assert (envelope["op"], envelope["before"], envelope["after"]) == ("t", None, None)


def test_snapshot_reads_say_so() -> None:
    batch = _batch([("r", None, {"id": 1, 'q"\n': "", "doc": "[]"})])
    assert orjson.loads(render(batch, CONTEXT).texts()[0])["source"]["snapshot"] == "true"


def test_a_json_null_is_no_null() -> None:
    image = {"id": 1, 'q"\n': "", "doc": "null"}
    batch = _batch([("c", None, image), ("u", image, {**image, "doc": None}), ("d", {**image, "doc": None}, None)])
    texts = render(batch, CONTEXT).texts()
    assert orjson.loads(texts[1])["source"]["json_null"] == ["before.doc"]
    assert "json_null" not in orjson.loads(texts[2])["source"]
    [back] = parse(texts, SCHEMA)
    _same(back, batch)


def test_partial_images_keep_absent_columns_absent() -> None:
    key, rest = SCHEMA.image_type(("id",)), SCHEMA.image_type(("doc",))
    batch = _batch([("u", {"id": 1}, {"doc": "[1]"}), ("u", {"id": 2}, {"doc": None})], before=key, after=rest)
    texts = render(batch, CONTEXT).texts()
    assert orjson.loads(texts[1])["after"] == {"doc": None}
    [back] = parse(texts, SCHEMA)
    _same(back, batch)


def test_batches_are_split_where_the_columns_change() -> None:
    full = {"id": 1, 'q"\n': "a", "doc": "1"}
    inserts = _batch([("c", None, full), ("c", None, full)])
    updates = _batch(
        [("u", {"id": 1}, {"doc": "2"})], before=SCHEMA.image_type(("id",)), after=SCHEMA.image_type(("doc",))
    )
    others = replace(updates, server_uuid="mariadb:8")
    parts = [inserts, updates, others]
    back = parse([text for part in parts for text in render(part, CONTEXT).texts()], SCHEMA)
    assert [len(batch) for batch in back] == [2, 1, 1]
    for one, other in zip(back[1:], parts[1:], strict=True):
        _same(one, other)
    assert back[0].data.column("after").to_pylist() == [full, full]
    assert back[0].data.column("seq").to_pylist() + back[1].data.column("seq").to_pylist() == [0, 1, 2]


def test_an_image_without_columns_is_an_empty_object() -> None:
    batch = _batch([("u", {"id": 1}, {})], before=SCHEMA.image_type(("id",)), after=pa.struct([]))
    texts = render(batch, CONTEXT).texts()
    assert orjson.loads(texts[0])["after"] == {}
    [back] = parse(texts, SCHEMA)
    assert back.data.column("after").to_pylist() == [{}]


def test_several_envelopes_in_a_message() -> None:
    batch = sample_batch(10)
    texts = render(batch, CONTEXT).texts()
    messages = [b"\n".join(texts[:3]), b"\n".join(texts[3:]) + b"\n"]
    assert [count_changes(message, JSON_LINES) for message in messages] == [3, 7]
    assert count_changes(texts[0], JSON) == 1
    [back] = parse(messages, batch.schema)
    _same(back, batch)


@pytest.mark.parametrize("message", [b"", b"{", b"[]", b'{"before":null}', b"\xff", b'{"before":{"id":"x"}}'])
def test_foreign_messages_are_refused(message: bytes) -> None:
    with pytest.raises(WireError):
        parse([message, b"{}"], sample_schema())


@pytest.mark.parametrize("message", [b"", b"no arrow", encode_arrow(sample_batch(3))[:-200]])
def test_foreign_arrow_is_refused(message: bytes) -> None:
    with pytest.raises(WireError):
        decode_arrow(message)


def test_a_table_of_a_thousand_columns() -> None:
    schema = TableSchema("d", "wide", tuple(Column(f"c{i}", "int") for i in range(1200)))
    row = {f"c{i}": i for i in range(1200)}
    batch = _batch([("c", None, row)], schema)
    [back] = parse(render(batch, CONTEXT).texts(), schema)
    _same(back, batch)
