"""Signatures of handlers: the supported forms, the arguments of each, and errors for unsupported ones."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from binlogsync.change import Change
from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.handler_frames import frame, record_batch
from binlogsync.consume.handler_signature import Signature, read_signature
from binlogsync.errors import ConfigError
from binlogsync.schema import Column, TableSchema
from tests.duck import make_batch
from tests.samples import sample_batch

ITEMS = TableSchema(
    "shop",
    "items",
    (
        Column("id", "bigint", nullable=False, unsigned=True),
        Column("price", "decimal", precision=10, scale=2),
        Column("size", "enum", charset="utf8mb4", labels=("S", "M")),
    ),
    ("id",),
)
CHANGES: list[Any] = [
    ("c", None, {"id": 2**63 + 1, "price": None, "size": "S"}),
    ("u", {"id": 1, "price": Decimal("1.50"), "size": "S"}, {"id": 1, "price": Decimal("2.50"), "size": None}),
    ("d", {"id": 3, "price": Decimal("9.99"), "size": "M"}, None),
]


@dataclass
class Item:
    id: int
    price: Decimal | None


@dataclass
class OtherModel:
    id: int


def on_item(change: Change[Item]) -> None: ...
def on_item_stored(change: Change[Item], connection: duckdb.DuckDBPyConnection) -> None: ...
def on_items(changes: list[Change[Item]]) -> None: ...
def on_frame(frame: pd.DataFrame) -> None: ...
def on_frame_stored(frame: pd.DataFrame, connection: duckdb.DuckDBPyConnection) -> None: ...
def on_batch(batch: pa.RecordBatch) -> None: ...
async def on_item_async(change: Change[Item]) -> None: ...
def on_item_quietly(change: Change[Item], note: str = "") -> None: ...


class CallableHandler:
    def on_items(self, changes: list[Change[Item]]) -> None: ...
    def __call__(self, frame: pd.DataFrame) -> None: ...


@pytest.mark.parametrize(
    ("fn", "signature"),
    [
        (on_item, Signature("change")),
        (on_item_stored, Signature("change", in_transaction=True)),
        (on_items, Signature("list")),
        (on_frame, Signature("frame")),
        (on_frame_stored, Signature("frame", in_transaction=True)),
        (on_batch, Signature("arrow")),
        (on_item_async, Signature("change", is_async=True)),
        (on_item_quietly, Signature("change")),
        (lambda change: None, Signature("change")),
        (lambda change, connection: None, Signature("change", in_transaction=True)),
        (CallableHandler().on_items, Signature("list")),
        (CallableHandler(), Signature("frame")),
        (functools.partial(on_item_stored, connection=cast(Any, None)), Signature("change")),
        ([].append, Signature("change")),
        (print, Signature("change")),
    ],
)
def test_the_signature_says_which_shape(fn: Any, signature: Signature) -> None:
    assert read_signature(fn, Item) == signature


def wrong_model(change: Change[OtherModel]) -> None: ...
def wrong_models(changes: list[Change[OtherModel]]) -> None: ...
def bare_models(items: list[Item]) -> None: ...
def plain(row: dict[str, Any]) -> None: ...
def unknown(change: Chaneg[Item]) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def nothing() -> None: ...
def three(a: int, b: int, c: int) -> None: ...


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (wrong_model, r"wrong_model takes Change\[OtherModel\], but the model given is Item"),
        (wrong_models, r"wrong_models takes Change\[OtherModel\]"),
        (bare_models, r"bare_models takes list\[.*Item\], which is not supported; write it as fn\(change"),
        (plain, r"plain takes dict\[str, .*Any\]"),
        (unknown, r"the annotation 'Chaneg\[Item\]' of change cannot be resolved"),
        (nothing, "nothing takes 0 arguments"),
        (three, "three takes 3 arguments"),
        (7, "7 is not a function"),
    ],
)
def test_a_wrong_signature_is_an_error_at_once(fn: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        read_signature(fn, Item)


def test_without_a_model_there_are_frames_and_record_batches_only() -> None:
    assert read_signature(on_frame, None).shape == "frame"
    with pytest.raises(ConfigError, match="give the model as well"):
        read_signature(on_item, None)


def test_a_model_that_is_local_to_a_function_is_found() -> None:
    @dataclass
    class Local:
        id: int

    def on_local(change: Change[Local]) -> None: ...

    assert read_signature(on_local, Local).shape == "change"


def items() -> ChangeBatch:
    return make_batch(ITEMS, CHANGES)


def test_a_frame_has_a_row_a_change_and_exact_values() -> None:
    batch = items()
    made = frame(batch, None)
    assert [*made.columns[:3]] == ["op", "id", "ts"]
    assert made["op"].tolist() == ["c", "u", "d"]
    assert made["id"].tolist() == [change.id for change in batch.changes()]
    assert made["after.id"].tolist() == [2**63 + 1, 1, pd.NA]
    assert made["before.price"].tolist() == [pd.NA, Decimal("1.50"), Decimal("9.99")]
    assert made["after.size"].str.lower().tolist() == ["s", pd.NA, pd.NA]


def test_a_model_cuts_frames_and_record_batches_down_to_its_columns() -> None:
    assert [name for name in frame(items(), ["id", "price"]).columns if "." in name] == [
        "before.id",
        "before.price",
        "after.id",
        "after.price",
    ]
    made = record_batch(items(), ["price"])
    assert made.column("after").to_pylist() == [{"price": None}, {"price": Decimal("2.50")}, None]
    assert made.column("op").to_pylist() == ["c", "u", "d"]


def test_every_type_goes_into_frames_and_record_batches() -> None:
    batch = sample_batch(12)
    changes = list(batch.changes())
    assert len(frame(batch, None)) == len(changes)
    made = record_batch(batch, None)
    assert made.column("id").to_pylist() == [change.id for change in changes]


def test_dates_that_cannot_be_are_said(caplog: pytest.LogCaptureFixture) -> None:
    batch = sample_batch(12, impossible=True)
    with caplog.at_level(logging.WARNING):
        record_batch(batch, None)
    assert "zero or impossible date(s)" in caplog.text
    caplog.clear()
    record_batch(batch, ["id"])
    assert not caplog.text
