"""Few changes decoded to Python values, compared with the same changes decoded to Arrow columns."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec import json_decoder
from binlogsync.codec.column_parser import RAW_TYPES, read_column
from binlogsync.codec.envelope import EnvelopeContext, render
from binlogsync.codec.envelope_batch import EnvelopeBatch
from binlogsync.codec.json_decoder import MOST_AS_VALUES, parse_any
from binlogsync.codec.value_reader import image_reader
from binlogsync.errors import WireError
from binlogsync.schema import Column, TableSchema
from binlogsync.values import python_values
from tests.codec.damage import damaged_bytes, damaged_tree
from tests.codec.test_envelope_reader import column_batch
from tests.codec.test_families import CASES, IMPOSSIBLE, Case, named
from tests.duck import make_batch
from tests.examples import examples
from tests.published_rows import PublishedAt, publish_rows
from tests.samples import sample_batch, sample_row, sample_schema

pytestmark = pytest.mark.slow
CONTEXT = EnvelopeContext("demo", 1_700_000_100_123_456)


def _as_columns(messages: Sequence[bytes], schema: TableSchema, monkeypatch: pytest.MonkeyPatch) -> list[ChangeBatch]:
    with monkeypatch.context() as patched:
        patched.setattr(json_decoder, "MOST_AS_VALUES", 0)
        return parse_any(messages, schema)


def _check(messages: Sequence[bytes], schema: TableSchema, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = parse_any(messages, schema), _as_columns(messages, schema, monkeypatch)
    assert list(map(len, found)) == list(map(len, expected))
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, EnvelopeBatch)
        assert not isinstance(other, EnvelopeBatch)
        # The text, because -0.0 equals 0.0, and True equals 1.
        assert repr(list(one.changes())) == repr(list(other.changes()))
        assert (one.server_uuid, one.server_id, one.count_ops()) == (
            other.server_uuid,
            other.server_id,
            other.count_ops(),
        )
        for row in range(len(one)):
            assert one.source_values(row) == other.source_values(row)
        numbered, seqs = one.with_seqs(np.arange(7, 7 + len(one))), list(range(7, 7 + len(one)))
        assert [numbered.source_values(row).seq for row in range(len(one))] == seqs
        part = one.slice(len(one) // 2, len(one))
        assert repr(list(part.changes())) == repr(list(other.changes())[len(one) // 2 :])
        assert part.data.to_pylist() == other.slice(len(one) // 2, len(one)).data.to_pylist()
        assert one.data.schema == other.data.schema
        assert repr(one.data.to_pylist()) == repr(other.data.to_pylist())
        assert {key: texts.to_pylist() for key, texts in one.impossible.items()} == {
            key: texts.to_pylist() for key, texts in other.impossible.items()
        }
        assert numbered.data.column("seq").to_pylist() == seqs
        assert one.slice(0, 0).data.num_rows == one.slice(1, 1).data.num_rows == 0


@pytest.mark.generated
@pytest.mark.parametrize("case", CASES, ids=named)
@settings(max_examples=examples(6), deadline=None)
@given(data=st.data())
def test_generated_values_of_each_type(case: Case, data: st.DataObject) -> None:
    column, strategy, _ = case
    values = data.draw(st.lists(st.none() | strategy, min_size=1, max_size=12))
    batch = column_batch(replace(column, name='cölumn "x"\\'), values)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _check(render(batch, CONTEXT).texts(), batch.schema, monkeypatch)


@pytest.mark.parametrize("impossible", [False, True])
def test_all_types_together(impossible: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = sample_batch(MOST_AS_VALUES, impossible=impossible)
    _check(render(batch, CONTEXT).texts(), batch.schema, monkeypatch)


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_impossible_dates_are_texts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([None, *IMPOSSIBLE[kind], None], pa.string())
    batch = column_batch(Column("c", kind, fsp=6), [None] * len(texts), texts)
    _check(render(batch, CONTEXT).texts(), batch.schema, monkeypatch)


def test_rows_of_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = publish_rows(sample_schema(), [sample_row(1), sample_row(2)], PublishedAt("a1B2", first=7, pos=1187))
    messages = render(batch, CONTEXT).texts()
    _check(messages, batch.schema, monkeypatch)
    assert all(change.source.snapshot for change in parse_any(messages, batch.schema)[0].changes())


def test_partial_images_lack_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = column_batch(Column("c", "varchar", length=9), ["a", None, "b", "c"])
    messages = [text.replace(b',"c":"a"', b"") for text in render(batch, CONTEXT).texts()]
    _check(messages, batch.schema, monkeypatch)
    assert next(iter(parse_any(messages, batch.schema)[0].changes())).after == {"id": 0}


@pytest.mark.parametrize("name", ["c", "after.c"])
def test_the_document_null_is_not_a_missing_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = column_batch(Column(name, "json"), ["null", None, " null ", "[null]", "null"])
    messages = render(batch, CONTEXT).texts()
    assert any(b"json_null" in text for text in messages)
    _check(messages, batch.schema, monkeypatch)
    [found] = parse_any(messages, batch.schema)
    first, second = itertools.islice(found.changes(), 2)
    assert first.before is not None
    assert first.after is not None
    assert (first.before[name], first.after[name]) == ("null", "null")
    assert [image[name] for image in second.rows if image is not None] == [None]
    others = [
        text.replace(f'"after.{name}"]'.encode(), f'"after.{name}","after.zz","after.id"]'.encode())
        for text in messages
    ]
    assert others != messages
    _check(others, batch.schema, monkeypatch)
    absent = [text.replace(f',"{name}":null'.encode(), b"") for text in messages]
    _check(absent, batch.schema, monkeypatch)


def test_the_document_null_in_a_table_of_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = TableSchema("shop", "t", (Column("c", "json"),))
    batch = make_batch(schema, [("c", None, {"c": document}) for document in ("null", None, "1")])
    _check(render(batch, CONTEXT).texts(), schema, monkeypatch)


def test_a_copy_has_columns_and_equals_the_batch() -> None:
    batch = sample_batch(5, impossible=True)
    [found] = parse_any(render(batch, CONTEXT).texts(), batch.schema)
    for again in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert not isinstance(again, EnvelopeBatch)
        assert again == found
        assert found == again
    assert found.slice(0, 5) == found
    assert found.slice(0, 5).holds_python_values
    assert found.slice(0, 4) != found
    assert found.slice(1, 3) == parse_any(render(batch, CONTEXT).texts(), batch.schema)[0].slice(1, 3)
    with pytest.raises(ValueError, match="zip"):
        found.with_seqs([1])


def test_row_views_do_not_share_mutable_values() -> None:
    column = Column("c", "set", labels=("a", "b"))
    batch = column_batch(column, [["a"], ["b"], ["a", "b"]])
    [found] = parse_any(render(batch, CONTEXT).texts(), batch.schema)
    for change in found.changes():
        for image in (change.before, change.after):
            if image is not None:
                image["c"].append("x")
                image["id"] = -1
    assert repr(list(found.changes())) == repr(list(batch.changes()))


@pytest.mark.parametrize(
    ("path", "number"),
    [("pos", -1), ("pos", 1 << 64), ("row", -1), ("row", 1 << 32), ("txn_pos", 1 << 64), ("ts_us", 1 << 63)],
)
def test_a_number_out_of_range_is_an_error_of_both(path: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = column_batch(Column("c", "int"), [5])
    [text] = render(batch, CONTEXT).texts()
    document = json.loads(text)
    document["source"][path] = number
    messages = [json.dumps(document).encode()]
    with pytest.raises(WireError):
        parse_any(messages, batch.schema)
    with pytest.raises(WireError):
        _as_columns(messages, batch.schema, monkeypatch)


@pytest.mark.generated
def test_damaged_envelopes_are_errors_of_both_or_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(11)
    batch = sample_batch(6, impossible=True)
    texts = render(batch, CONTEXT).texts()
    read = refused = 0
    for number in range(examples(150)):
        messages = list(texts)
        at = chance.randrange(len(messages))
        messages[at] = (damaged_bytes if number % 2 else damaged_tree)(messages[at], chance)
        try:
            expected = _as_columns(messages, batch.schema, monkeypatch)
        except WireError:
            refused += 1
            with pytest.raises(WireError):
                parse_any(messages, batch.schema)
            continue
        read += 1
        try:
            for each in expected:
                list(each.changes())
        except (OverflowError, ValueError):
            continue  # no Python value
        _check(messages, batch.schema, monkeypatch)
    assert read > 20
    assert refused > 20


TEXTS = {
    "decimal": [
        "1.50", "-0.00", "1", "1.5", "01.50", "1e1", "", "x", "12345678901.00", "NaN", "Infinity", "1_0.00",
        "١.00",
    ],
    "date": ["2024-02-29", "2023-02-29", "0000-00-00", "2024-1-1", "20240101", "２024-01-01", "2024-W01-1", "x"],
    "datetime": [
        "2024-02-29T01:02:03", "2024-02-29T01:02:03.5", "2024-02-29T24:00:00", "2024-02-29T23:59:60",
        "2024-02-29 01:02:03", "2024-02-29T01:02", "2024-02-29T01:02:03Z", "2024-02-29T01:02:03.1234567",
        "0001-01-01T00:00:00",
    ],
    "timestamp": [
        "2024-02-29T01:02:03Z", "2024-02-29T01:02:03", "2024-02-29T01:02:03+00:00", "1970-01-01T00:00:00.000001Z",
    ],
    "time": [
        "01:02:03", "-01:02:03.5", "838:59:59", "-838:59:59.000001", "-00:00:00", "1:02:03", "01:60:00", "9999:00:00",
        "x", "٠1:02:03",
    ],
    "varbinary": ["YWI=", "YWI", "", "Y W=", "ü", "YWJj"],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in TEXTS.items() for text in texts])
def test_texts_in_any_form(kind: str, text: str) -> None:
    _check_value(Column("c", kind, precision=12, scale=2, fsp=6), text)


@pytest.mark.parametrize("text", ["1.5", "-0", "-0.0", "1e308", "1e999", "true", '"1"', "[1]", "null", "1E5", "0.1"])
@pytest.mark.parametrize("kind", ["float", "double", "json", "vector"])
def test_raw_texts_in_any_form(kind: str, text: str) -> None:
    _check_value(Column("c", kind), msgspec.Raw(text.encode()))


@pytest.mark.parametrize(
    "value", [-129, -128, -1, 0, 127, 128, 255, 256, 65535, 65536, 1 << 63, 1 << 64, -(1 << 63) - 1]
)
@pytest.mark.parametrize("kind", ["tinyint", "mediumint", "bigint", "bigint unsigned", "year", "bit"])
def test_integers_of_any_size(kind: str, value: int) -> None:
    name, _, unsigned = kind.partition(" ")
    _check_value(Column("c", name, unsigned=bool(unsigned), length=64 if name == "bit" else None), value)


def _check_value(column: Column, value: Any) -> None:
    """The value, or the error, is that of `read_column`."""
    raw = bytes(value) if column.type in RAW_TYPES else value
    read = image_reader(TableSchema("shop", "t", (column,))).read
    try:
        array, texts = read_column(column, [None if column.type == "json" and raw == b"null" else raw])
    except WireError:
        with pytest.raises(WireError):
            read([value])
        return
    [expected] = python_values(array) if texts is None or texts.null_count else texts.to_pylist()
    assert repr(read([value])) == repr({"c": expected})
