"""The kernels that decode envelopes, compared with the JSON decoder: equal batches, or they give up."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogsync.change_batch import ChangeBatch, build_batch
from binlogsync.codec.envelope import EnvelopeContext, render
from binlogsync.codec.envelope_reader import read_envelopes
from binlogsync.codec.json_decoder import parse_any
from binlogsync.errors import WireError
from binlogsync.schema import Column, TableSchema, arrow_type
from tests.codec.damage import damaged_bytes, damaged_tree
from tests.codec.test_families import CASES, IMPOSSIBLE, Case, named
from tests.examples import examples
from tests.samples import SampleOptions, SampleSource, sample_batch

pytestmark = pytest.mark.slow

CONTEXT = EnvelopeContext("demo", 1_700_000_100_123_456)


def _read(messages: list[bytes], schema: TableSchema) -> list[ChangeBatch] | None:
    sizes = np.array([len(message) + 1 for message in messages], np.int64)
    ends = np.cumsum(sizes)
    found = read_envelopes(np.frombuffer(b"\0".join(messages) + b"\0", np.uint8), ends - sizes, ends - 1, schema)
    if found is None:
        return None
    assert found[1].tolist() == [message.rstrip(b"\n").count(b"\n") + 1 for message in messages]
    return found[0]


def _same(found: list[ChangeBatch] | None, expected: list[ChangeBatch]) -> None:
    assert found is not None
    assert [len(batch) for batch in found] == [len(batch) for batch in expected]
    for one, other in zip(found, expected, strict=True):
        one.data.validate(full=True)
        assert (one.schema, one.server_uuid, one.server_id) == (other.schema, other.server_uuid, other.server_id)
        assert type(one.server_id) is type(other.server_id)
        assert one.data.schema == other.data.schema
        # The text, because -0.0 equals 0.0.
        assert repr(one.data.to_pylist()) == repr(other.data.to_pylist())
        assert {key: texts.to_pylist() for key, texts in one.impossible.items()} == {
            key: texts.to_pylist() for key, texts in other.impossible.items()
        }


def column_batch(column: Column, values: list[Any], texts: pa.StringArray | None = None) -> ChangeBatch:
    """Changes of a table with this column; some images are NULL."""
    schema = TableSchema("shop", "odd näme", (Column("id", "int"), column))
    count = len(values)
    ids, array = pa.array(range(count), pa.int32()), pa.array(values, arrow_type(column))
    names = ["id", column.name]
    images = (
        pa.StructArray.from_arrays([ids, array], names, mask=pa.array([i % 3 == 1 for i in range(count)])),
        pa.StructArray.from_arrays([ids, array], names, mask=pa.array([i % 4 == 2 for i in range(count)])),
    )
    source: dict[str, Any] = {
        name: pa.array(range(count), pa.int64()) for name in ("ts_us", "pos", "row", "txn_pos", "order", "seq")
    }
    source |= {"gtid": [None if i % 5 == 4 else f"0-1-{i // 3}" for i in range(count)], "file": ["b.000001"] * count}
    impossible = {} if texts is None else {("before", column.name): texts, ("after", column.name): texts}
    return build_batch(schema, ["u"] * count, images, source, ("mariadb:7", 7), impossible)  # type: ignore[arg-type]


@pytest.mark.generated
@pytest.mark.parametrize("case", CASES, ids=named)
@settings(max_examples=examples(15), deadline=None)
@given(data=st.data())
def test_generated_values_of_each_type(case: Case, data: st.DataObject) -> None:
    column, strategy, _ = case
    values = data.draw(st.lists(st.none() | strategy, min_size=1, max_size=12))
    batch = column_batch(replace(column, name='cölumn "x"\\'), values)
    messages = render(batch, CONTEXT).texts()
    _same(_read(messages, batch.schema), parse_any(messages, batch.schema))


@pytest.mark.generated
@settings(max_examples=examples(20), deadline=None)
@given(count=st.integers(1, 80), impossible=st.booleans(), flavor=st.booleans(), data=st.data())
def test_batches_of_every_type(count: int, impossible: bool, flavor: bool, data: st.DataObject) -> None:
    batch = sample_batch(count, impossible=impossible)
    if flavor:
        batch = SampleSource(SampleOptions(flavor=None)).flush(9).batches[0]
    batch = batch.slice(data.draw(st.integers(0, len(batch) - 1)), len(batch))
    messages = render(batch, CONTEXT).texts()
    at = data.draw(st.integers(0, len(messages)))
    lines = [b"\n".join(part) for part in (messages[:at], messages[at:]) if part]
    lines[0] += b"\n" * data.draw(st.booleans())
    for texts in (messages, lines):
        _same(_read(texts, batch.schema), parse_any(texts, batch.schema))


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_impossible_dates(kind: str) -> None:
    column = Column("c", kind, fsp=6)
    texts = pa.array([None, *IMPOSSIBLE[kind], None], pa.string())
    batch = column_batch(column, [None] * len(texts), texts)
    messages = render(batch, CONTEXT).texts()
    _same(_read(messages, batch.schema), parse_any(messages, batch.schema))


@pytest.mark.parametrize(
    "document", ["null", '"null"', "[]", '{"a": [1.50, {"b\\u00e9": null}], "c":{}}', "-0.0", '"ü"']
)
def test_json_documents(document: str) -> None:
    batch = column_batch(Column("c", "json"), [document, None, document, document, None, "null"])
    messages = render(batch, CONTEXT).texts()
    _same(_read(messages, batch.schema), parse_any(messages, batch.schema))


def test_another_server_is_another_batch() -> None:
    batch = sample_batch(20)
    others = [replace(batch, server_uuid="mariadb:8", server_id=8), replace(batch, server_id=9)]
    messages = [text for one in (batch, batch, *others) for text in render(one, CONTEXT).texts()]
    found = _read(messages, batch.schema)
    _same(found, parse_any(messages, batch.schema))
    assert found is not None
    assert len(found) == 3


@pytest.mark.parametrize("op", ["c", "d"])
def test_one_message_of_many_changes_has_no_images_on_one_side(op: str) -> None:
    batch, count = column_batch(Column("c", "enum", labels=("a", "b")), ["a"]), 5000
    [text] = render(batch, CONTEXT).texts()
    envelope = json.loads(text)
    envelope |= {"op": op, "before" if op == "c" else "after": None}
    line = json.dumps(envelope, separators=(",", ":")).encode()
    _same(_read([b"\n".join([line] * count)], batch.schema), parse_any([b"\n".join([line] * count)], batch.schema))


def test_an_undeclared_label_is_kept() -> None:
    batch = column_batch(Column("c", "enum", labels=("a", "b")), ["a", "b", "a", None])
    messages = render(batch, CONTEXT).texts()
    messages[2] = messages[2].replace(b'"c":"a"', b'"c":""')
    _same(_read(messages, batch.schema), parse_any(messages, batch.schema))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"before":', b'"before": '),
        (b'"id":0', b'"id":00'),
        (b'"id":0', b'"id":3000000000'),
        (b'"id":0', b'"id":true'),
        (b'"c":"a"', b'"c":"\\ud800"'),
        (b'"c":"a"', b'"c":"\xff"'),
        (b'"c":"a"', b'"c":"a'),
        (b'"c":"a"', b'"c":7'),
        (b',"c":"a"', b""),
        (b'"op":"u"', b'"op":"x"'),
        (b'"op":"u"', b'"op":null'),
        (b'"total_order":1', b'"total_order":0'),
        (b'"pos":0', b'"pos":-1'),
        (b'"pos":0', b'"pos":18446744073709551616'),
        (b'"row":0', b'"row":4294967296'),
        (b'"file":"b.000001"', b'"file":null'),
        (b"}}", b"}} "),
        (b"}}", b"}}\n\n"),
    ],
)
def test_kernels_give_up_where_an_envelope_is_not_as_written(old: bytes, new: bytes) -> None:
    batch = column_batch(Column("c", "text"), ["a"])
    [message] = render(batch, CONTEXT).texts()
    assert old in message
    assert _read([message], batch.schema) is not None
    assert _read([message.replace(old, new, 1)], batch.schema) is None


@pytest.mark.parametrize(
    "text", ["18446744073709551615", "10000000000000000000", "9999999999999999999", "12345678", "0"]
)
def test_large_numbers(text: str) -> None:
    batch = column_batch(Column("c", "bigint", unsigned=True), [int(text)])
    messages = render(batch, CONTEXT).texts()
    _same(_read(messages, batch.schema), parse_any(messages, batch.schema))


@pytest.mark.parametrize(
    "text",
    ["18446744073709551616", "99999999999999999999", "100000000000000000000", "1234567x", "-1", "1.0", "1e3", "01"],
)
def test_what_is_no_unsigned_number(text: str) -> None:
    batch = column_batch(Column("c", "bigint", unsigned=True), [77])
    [message] = render(batch, CONTEXT).texts()
    assert _read([message.replace(b'"c":77', f'"c":{text}'.encode(), 1)], batch.schema) is None


@pytest.mark.generated
def test_damaged_envelopes_are_read_as_the_json_decoder_reads_them() -> None:
    chance = random.Random(7)
    batch = sample_batch(12, impossible=True)
    texts = render(batch, CONTEXT).texts()
    read = 0
    for number in range(examples(500)):
        messages = list(texts)
        at = chance.randrange(len(messages))
        messages[at] = (damaged_bytes if number % 2 else damaged_tree)(messages[at], chance)
        if number % 4 == 0:  # in the layout of the tail, so that only the values are damaged
            try:
                document = json.loads(messages[at])
                messages[at] = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
            except (ValueError, RecursionError):
                pass
        found = _read(messages, batch.schema)
        if found is not None:
            read += 1
            _same(found, parse_any(messages, batch.schema))
    assert read > 20


def test_an_error_is_that_of_the_json_decoder() -> None:
    batch = sample_batch(30)
    messages = render(batch, CONTEXT).texts()
    messages[7] = messages[7].replace(b'"op":"', b'"op":"?', 1)
    assert _read(messages, batch.schema) is None
    with pytest.raises(WireError, match="message 7 of"):
        parse_any(messages, batch.schema)
