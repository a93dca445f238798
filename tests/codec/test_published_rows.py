"""Rows that a snapshot publishes: in each format, and equal after each reader; other changes are written as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from binlogsync.change_batch import ChangeBatch, build_batch
from binlogsync.codec.envelope import EnvelopeContext, decode_arrow, encode_arrow, render
from binlogsync.codec.envelope_reader import read_envelopes
from binlogsync.codec.joining import join_batches
from binlogsync.codec.json_decoder import parse, parse_any
from tests.published_rows import PublishedAt, publish_rows
from tests.samples import sample_batch, sample_row, sample_schema

CONTEXT = EnvelopeContext("demo", 1_700_000_100_123_456)
AT = PublishedAt("a1B2", first=4_294_967_200, pos=1187)


def _values(batches: list[ChangeBatch]) -> list[Any]:
    return [
        {name: value for name, value in row.items() if name != "seq"}
        for batch in batches
        for row in batch.data.to_pylist()
    ]


def _by_kernels(batch: ChangeBatch) -> list[ChangeBatch]:
    texts = render(batch, CONTEXT)
    found = read_envelopes(texts.data, texts.offsets[:-1].copy(), texts.offsets[1:].copy(), batch.schema)
    assert found is not None
    assert found[1].tolist() == [1] * len(batch)
    return found[0]


def test_an_envelope_has_the_conventions_of_debezium() -> None:
    batch = publish_rows(sample_schema(), [sample_row(1), sample_row(2)], AT)
    one, two = (orjson.loads(text) for text in render(batch, CONTEXT).texts())
    source = two["source"]
    assert (two["op"], two["before"], two["after"]["id"]) == ("r", None, 2)
    assert (source["snapshot"], source["gtid"]) == ("incremental", None)
    assert (source["file"], source["pos"], source["txn_pos"], source["row"]) == (
        "binlog.000001",
        1187,
        1187,
        AT.first + 1,
    )
    assert one["transaction"] == {"id": "snapshot:a1B2", "total_order": AT.first + 1}
    assert two["transaction"] == {"id": "snapshot:a1B2", "total_order": AT.first + 2}


def test_ids_are_the_snapshot_and_the_ordinal() -> None:
    batch = publish_rows(sample_schema(), [sample_row(1), sample_row(2)], AT)
    ids = [f"snapshot:a1B2:{AT.first + i}" for i in range(2)]
    assert batch.ids().to_pylist() == ids
    changes = list(batch.changes())
    assert [change.id for change in changes] == ids
    assert all(change.source.snapshot and change.op == "r" and change.before is None for change in changes)
    assert changes[0].source.coordinates < changes[1].source.coordinates


@pytest.mark.parametrize("count", [1, 3, 40])
def test_every_reader_returns_an_equal_batch(count: int) -> None:
    batch = publish_rows(sample_schema(), [sample_row(i) for i in range(count)], AT)
    expected = _values([batch])
    texts = render(batch, CONTEXT).texts()
    assert _values(_by_kernels(batch)) == expected
    assert _values(parse_any(texts, batch.schema)) == expected
    assert _values(parse([b"\n".join(texts)], batch.schema)) == expected
    assert _values([decode_arrow(encode_arrow(batch))]) == expected


@pytest.mark.parametrize("has_gtids", [True, False])
def test_rows_among_changes_keep_the_transactions_of_the_others(has_gtids: bool) -> None:
    changes = sample_batch(12)
    if not has_gtids:
        column = changes.data.schema.get_field_index("gtid")
        none = pa.nulls(12, changes.data.schema.field("gtid").type)
        data = changes.data.set_column(column, changes.data.schema.field("gtid"), none)
        changes = ChangeBatch(changes.schema, data, changes.server_uuid, changes.server_id)
    rows = publish_rows(sample_schema(), [sample_row(i) for i in range(5)], AT, first_seq=4)
    mixed = join_batches([changes.slice(0, 4), rows, changes.slice(4, 12)])
    assert len(mixed) <= 3
    texts = [text for batch in mixed for text in render(batch, CONTEXT).texts()]
    expected = _values(mixed)
    alone = render(changes, CONTEXT).texts()
    assert [text for text in texts if b'"op":"r"' not in text] == alone
    assert _values([each for batch in mixed for each in _by_kernels(batch)]) == expected
    assert _values(parse_any(texts, changes.schema)) == expected


def test_an_older_snapshot_row_without_that_name_reads_back() -> None:
    schema = sample_schema()
    rows = publish_rows(schema, [sample_row(1)], AT)
    source = {name: rows.data.column(name) for name in rows.data.schema.names if name not in ("op", "before", "after")}
    for gtid in (None, "3e11fa47-71ca-11e1-9e33-c80aa9429562:7"):
        source["gtid"] = pa.array([gtid], pa.string())
        images = (rows.data.column("before"), rows.data.column("after"))
        batch = build_batch(schema, ["r"], images, source, (rows.server_uuid, rows.server_id))
        assert orjson.loads(render(batch, CONTEXT).texts()[0])["source"]["snapshot"] == "true"
        assert (
            _values(_by_kernels(batch))
            == _values(parse_any(render(batch, CONTEXT).texts(), schema))
            == _values([batch])
        )


def test_ordinals_up_to_the_largest_are_exact() -> None:
    at = PublishedAt("z", first=2**32 - 2, pos=2**40)
    batch = publish_rows(sample_schema(), [sample_row(i) for i in range(2)], at)
    [back] = _by_kernels(batch)
    assert back.data.column("row").to_pylist() == [2**32 - 2, 2**32 - 1]
    assert np.array_equal(back.data.column("order").to_numpy(), [2**32 - 2, 2**32 - 1])
