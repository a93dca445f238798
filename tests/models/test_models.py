"""Models: the table's name, the check against a schema, and rows as instances."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pydantic
import pytest

from binlogsync.change import Change
from binlogsync.errors import ModelError
from binlogsync.models.model import Model, python_types, table_name
from binlogsync.schema import Column, TableSchema
from tests.duck import make_batch
from tests.samples import sample_batch, sample_schema

HOLES = TableSchema(
    "treehole",
    "holes",
    (
        Column("id", "bigint", nullable=False, unsigned=True),
        Column("content", "text", charset="utf8mb4"),
        Column("created_at", "datetime", nullable=False),
        Column("likes", "int", nullable=False),
    ),
    ("id",),
)
ROW = {"id": 1, "content": None, "created_at": datetime(2024, 1, 2), "likes": 3}


@dataclass
class HoleData:
    id: int
    content: str | None
    created_at: datetime


class HoleStruct(msgspec.Struct):
    id: int
    content: str | None
    created_at: datetime


class HoleModel(pydantic.BaseModel):
    id: int
    content: str | None
    created_at: datetime


def named(name: str, **attributes: Any) -> type:
    return type(name, (), attributes)


@pytest.mark.parametrize(
    ("cls", "table"),
    [
        (named("Hole"), "holes"),
        (named("OrderItem"), "order_items"),
        (named("Category"), "categories"),
        (named("Day"), "days"),
        (named("Address"), "addresses"),
        (named("Box"), "boxes"),
        (named("Branch"), "branches"),
        (named("HTTPLog"), "http_logs"),
        (named("Hole", __tablename__="treehole.holes"), "treehole.holes"),
    ],
)
def test_the_table_is_known_from_the_model(cls: type, table: str) -> None:
    assert table_name(cls) == table


@pytest.mark.parametrize("cls", [HoleData, HoleStruct, HoleModel])
def test_rows_become_instances(cls: Any) -> None:
    model = Model(cls)
    model.check(HOLES)
    row: Any = model.row(ROW)
    assert (row.id, row.content, row.created_at) == (1, None, datetime(2024, 1, 2))
    assert isinstance(row, cls)
    assert model.row(None) is None


def test_a_change_has_both_images_and_its_id() -> None:
    model = Model(HoleData)
    model.check(HOLES)
    [change] = make_batch(HOLES, [("u", ROW, ROW | {"content": "x"})]).changes()
    typed = model.change(change)
    at = datetime(2024, 1, 2)
    assert typed == Change("u", HoleData(1, None, at), HoleData(1, "x", at), change.source, change)
    assert (typed.id, typed.changed(), typed.source) == (change.id, ("content",), change.source)


@dataclass(kw_only=True)
class HoleByName:
    content: str | None
    id: int


@dataclass
class HoleWithMore:
    id: int
    color: str = "red"
    likes: int = 0


@pytest.mark.parametrize("cls", [HoleData, HoleStruct, HoleModel, HoleByName, HoleWithMore])
def test_the_changes_of_a_batch_are_what_its_rows_are_one_by_one(cls: Any) -> None:
    model = Model(cls)
    model.check(HOLES)
    other = ROW | {"id": 2, "content": "x"}
    batch = make_batch(HOLES, [("c", None, ROW), ("u", ROW, other), ("t", None, None), ("d", other, None)])
    one_by_one = [model.change(change) for change in batch.changes()]
    assert list(model.changes(batch)) == one_by_one
    assert [type(change.after) for change in model.changes(batch)] == [cls, cls, type(None), type(None)]


@pytest.mark.parametrize("is_impossible", [False, True])
def test_values_of_every_type_are_those_of_the_row_views(is_impossible: bool) -> None:
    schema = sample_schema()
    cls: Any = dataclass(type("Sample", (), {"__annotations__": {column.name: Any for column in schema.columns}}))
    model = Model(cls)
    model.check(schema)
    batch = sample_batch(40, impossible=is_impossible)
    assert list(model.changes(batch)) == [model.change(change) for change in batch.changes()]


def test_a_row_that_is_refused_is_refused_in_its_place() -> None:
    model = model_of(likes=bool)
    schema = schema_of(Column("likes", "tinyint", nullable=False))
    model.check(schema)
    made = model.changes(make_batch(schema, [("c", None, {"likes": number}) for number in (0, 1, 2)]))
    assert [getattr(next(made).after, "likes", None) for _ in range(2)] == [False, True]
    with pytest.raises(ModelError, match="2 is neither 0 nor 1, and the field is bool; write int"):
        next(made)


def model_of(**hints: Any) -> Model[Any]:
    cls: Any = dataclass(type("Thing", (), {"__annotations__": hints}))
    return Model(cls)


def schema_of(*columns: Column) -> TableSchema:
    return TableSchema("shop", "things", columns)


@pytest.mark.parametrize(
    ("hint", "column", "expected"),
    [
        (int, Column("v", "varchar", nullable=False, length=9), "is varchar(9), and the field is int; write str"),
        (int, Column("v", "int"), "the column may be NULL, and the field is int; write int | None"),
        (
            str | None,
            Column("v", "decimal", precision=10, scale=2),
            "is decimal(10,2), and the field is str | None; write Decimal | None",
        ),
        (float, Column("v", "bigint", nullable=False), "the column is bigint, and the field is float; write int"),
        (bool, Column("v", "int", nullable=False), "the column is int, and the field is bool; write int"),
        (date, Column("v", "datetime", nullable=False), "is datetime, and the field is date; write datetime"),
        (datetime, Column("v", "date", nullable=False), "the column is date, and the field is datetime; write date"),
        (str, Column("v", "blob", nullable=False), "the column is blob, and the field is str; write bytes"),
        (Literal["a"], Column("v", "enum", nullable=False, labels=("a", "b")), "the column is enum('a','b')"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_is_named_with_the_fix(hint: Any, column: Column, expected: str) -> None:
    with pytest.raises(ModelError) as caught:
        model_of(v=hint).check(schema_of(column))
    assert str(caught.value).startswith("Thing.v does not fit shop.things.v: ")
    assert expected in str(caught.value)


def test_a_missing_column_is_named_with_the_fix() -> None:
    column = Column("created_at", "datetime", nullable=False)
    with pytest.raises(ModelError, match="Thing.createdAt: shop.things has no column 'createdAt'; name it created_at"):
        model_of(createdAt=datetime).check(schema_of(column))


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        model_of(a=int, b=str).check(schema_of(Column("b", "int", nullable=False)))
    assert len(str(caught.value).splitlines()) == 2


def test_a_field_with_a_default_may_be_absent() -> None:
    @dataclass
    class Thing:
        id: int
        tags: list[str] = field(default_factory=list)

    model = Model(Thing)
    model.check(schema_of(Column("id", "int", nullable=False)))
    assert model.row({"id": 1}) == Thing(1, [])


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Inner:
    a: int


@pytest.mark.parametrize(
    ("hint", "column", "value", "expected"),
    [
        (frozenset[str], Column("v", "set", labels=("a", "b")), ["a", "b"], frozenset({"a", "b"})),
        (list[str], Column("v", "set", labels=("a", "b")), ["a", "b"], ["a", "b"]),
        (dict[str, Any], Column("v", "json"), '{"a": 18446744073709551615}', {"a": 18446744073709551615}),
        (str, Column("v", "json"), '{"a": 1}', '{"a": 1}'),
        (Inner, Column("v", "json"), '{"a": 1}', Inner(1)),
        (Any, Column("v", "json"), "[1]", [1]),
        (Color, Column("v", "enum", labels=("red", "blue")), "red", Color.RED),
        (Literal["red", "blue"], Column("v", "enum", labels=("red", "blue")), "red", "red"),
        (bool, Column("v", "tinyint"), 1, True),
        (int, Column("v", "tinyint"), 1, 1),
        (bool, Column("v", "bit", length=1), True, True),
        (Decimal, Column("v", "decimal", precision=5, scale=2), Decimal("1.50"), Decimal("1.50")),
        (timedelta, Column("v", "time"), timedelta(hours=-1), timedelta(hours=-1)),
        (datetime, Column("v", "timestamp"), datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
        (date | str, Column("v", "date"), "0000-00-00", "0000-00-00"),
    ],
)
def test_values_take_the_type_of_the_field(hint: Any, column: Column, value: Any, expected: Any) -> None:
    model = model_of(v=hint | None if hint is not Any else hint)
    model.check(schema_of(column))
    row: Any = model.row({"v": value})
    assert row.v == expected
    assert type(row.v) is type(expected)
    empty: Any = model.row({"v": None})
    assert empty.v is None


@pytest.mark.parametrize(
    ("hint", "column", "value", "expected"),
    [
        (bool, Column("v", "tinyint", nullable=False), 2, "neither 0 nor 1"),
        (date, Column("v", "date", nullable=False), "0000-00-00", "not a date that Python has"),
        (Inner, Column("v", "json", nullable=False), '{"a": "x"}', "Expected `int`"),
    ],
)
def test_values_that_the_field_cannot_hold_are_refused(hint: Any, column: Column, value: Any, expected: str) -> None:
    model = model_of(v=hint)
    model.check(schema_of(column))
    with pytest.raises(ModelError, match=expected):
        model.row({"v": value})


def test_every_column_type_has_a_field_type_that_fits() -> None:
    schema = sample_schema()
    hints = {c.name: python_types(c)[0] | (None if c.nullable else python_types(c)[0]) for c in schema.columns}
    model = model_of(**hints)
    model.check(schema)
    for change in sample_batch(20, schema).changes():
        typed = model.change(change)
        for image, raw in ((typed.before, change.before), (typed.after, change.after)):
            assert (image is None) == (raw is None)
            if image is not None and raw is not None:
                assert {k: v for k, v in vars(image).items() if k != "c_json"} == {
                    k: v for k, v in raw.items() if k != "c_json"
                }


@pytest.mark.parametrize("cls", [int, type("Plain", (), {}), ROW])
def test_other_classes_are_refused(cls: Any) -> None:
    with pytest.raises(ModelError, match="not a (model|class)"):
        Model(cls)
