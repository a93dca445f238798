"""Bounds of a field that are too narrow for its column are found before any row; sufficient ones pass."""

from __future__ import annotations

from dataclasses import make_dataclass
from decimal import Decimal
from typing import Annotated, Any

import annotated_types
import msgspec
import pydantic
import pytest

from binlogsync.errors import ModelError
from binlogsync.models.model import Model
from binlogsync.schema import Column, TableSchema

INT = Column("v", "int", nullable=False)
BYTE = Column("v", "tinyint", nullable=False, unsigned=True)
NAME = Column("v", "varchar", nullable=False, length=20)
PRICE = Column("v", "decimal", nullable=False, precision=10, scale=2)


def check(hint: Any, column: Column, kind: str) -> None:
    if kind == "msgspec":
        cls: Any = msgspec.defstruct("Thing", [("v", hint)])
    else:
        cls = (
            pydantic.create_model("Thing", v=(hint, ...)) if kind == "pydantic" else make_dataclass("T", [("v", hint)])
        )
    Model(cls).check(TableSchema("shop", "things", (column,)))


@pytest.mark.parametrize("kind", ["dataclass", "msgspec", "pydantic"])
@pytest.mark.parametrize(
    ("hint", "column", "expected"),
    [
        (
            Annotated[int, msgspec.Meta(le=1000)],
            INT,
            r"int \(-2147483648 to 2147483647\), .* takes 1000 and",
        ),
        (Annotated[int, annotated_types.Ge(0)], INT, "takes 0 and more"),
        (Annotated[int, msgspec.Meta(gt=0)], BYTE, r"tinyint unsigned \(0 to 255\), and the field takes more than 0"),
        (Annotated[int, msgspec.Meta(lt=255)], BYTE, "takes less than 255; widen the bound"),
        (
            Annotated[str, annotated_types.MaxLen(10)],
            NAME,
            r"varchar\(20\) \(up to 20 long\), .* up to 10",
        ),
        (Annotated[str, msgspec.Meta(max_length=10)], Column("v", "text", nullable=False), "up to 65535 long"),
    ],
)
def test_too_narrow(hint: Any, column: Column, expected: str, kind: str) -> None:
    with pytest.raises(ModelError, match=expected):
        check(hint, column, kind)


@pytest.mark.parametrize("kind", ["dataclass", "msgspec", "pydantic"])
@pytest.mark.parametrize(
    ("hint", "column"),
    [
        (Annotated[int, msgspec.Meta(ge=0, le=255)], BYTE),
        (Annotated[int, annotated_types.Lt(256)] | None, BYTE),
        (Annotated[str, msgspec.Meta(max_length=20)], NAME),
        (Annotated[str, msgspec.Meta(title="a name")], NAME),
    ],
)
def test_wide_enough(hint: Any, column: Column, kind: str) -> None:
    check(hint, column, kind)


def test_what_pydantic_keeps_beside_the_hint() -> None:
    class Price(pydantic.BaseModel):
        v: Decimal = pydantic.Field(max_digits=8)

    with pytest.raises(ModelError, match=r"decimal\(10,2\) and the field takes 8 digits"):
        Model(Price).check(TableSchema("shop", "things", (PRICE,)))
