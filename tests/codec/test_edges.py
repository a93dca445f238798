"""The limits of every type, NULLs, slices, whole envelopes, and texts that need more room than was reserved."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.binlog.memory import address
from binlogsync.codec import json_kernels
from binlogsync.codec.envelope_writer import EnvelopePart, render_rows
from binlogsync.codec.json_columns import labels, strings
from binlogsync.codec.lookup_tables import TABLES
from binlogsync.codec.renderers import column_values, render_column
from binlogsync.schema import Column, arrow_type
from tests.compiled_kernels import compiled

put_number = compiled(json_kernels.put_number)
INTEGERS = [
    Column("c", kind, unsigned=unsigned)
    for kind in ("tinyint", "smallint", "mediumint", "int", "bigint")
    for unsigned in (False, True)
]


def _texts(column: Column, values: list[Any]) -> list[bytes]:
    """Render the values as a slice within a larger array."""
    array = pa.array([None, *values, None], arrow_type(column)).slice(1, len(values))
    return render_column(column, array).texts()


@pytest.mark.parametrize("column", INTEGERS, ids=lambda column: column.declaration)
def test_integers_at_their_limits(column: Column) -> None:
    kind = arrow_type(column)
    bits, low = kind.bit_width, 0 if column.unsigned else -(2 ** (kind.bit_width - 1))
    high = low + 2**bits - 1
    values = [low, low + 1, -1 if low else 1, 0, None, high - 1, high]
    values += [v for n in range(20) for v in (10**n - 1, 10**n, 1 - 10**n, -(10**n)) if low <= v <= high]
    assert _texts(column, values) == [b"null" if v is None else str(v).encode() for v in values]


@given(st.integers(0, 2**64 - 1) | st.integers(0, 63).map(lambda n: 2**n) | st.integers(0, 19).map(lambda n: 10**n))
def test_a_number_has_as_many_digits_as_it_needs(number: int) -> None:
    for value in {max(number - 1, 0), number}:
        out = np.full(64, 33, np.uint8)
        end = put_number(address(out), value, address(TABLES)) - address(out)
        assert out[:end].tobytes() == str(value).encode()


@pytest.mark.parametrize(
    ("precision", "scale", "values"),
    [
        (1, 0, ["0", "9", "-9"]),
        (5, 5, ["0.00000", "0.00001", "-0.99999"]),
        (18, 9, ["999999999.999999999", "-0.000000001"]),
        (38, 30, ["0.000000000000000000000000000001", "-99999999.999999999999999999999999999999"]),
        (38, 0, [str(2**63 - 1), str(-(2**63)), str(2**63), str(-(10**38) + 1)]),
        (20, 2, ["1.50", "-1.50"]),
        (65, 30, ["1.5" + "0" * 29, "9" * 35 + "." + "9" * 30, "-0." + "0" * 29 + "1"]),
        (65, 0, ["0", "9" * 65]),
    ],
)
def test_decimals_keep_their_scale(precision: int, scale: int, values: list[str]) -> None:
    column = Column("c", "decimal", precision=precision, scale=scale)
    found = _texts(column, [*(Decimal(value) for value in values), None])
    assert found == [*(f'"{value}"'.encode() for value in values), b"null"]


@pytest.mark.parametrize(
    ("kind", "fsp", "value", "text"),
    [
        ("date", None, -719162, "0001-01-01"),
        ("date", None, 2932896, "9999-12-31"),
        ("date", None, 19782, "2024-02-29"),
        ("datetime", 0, -62135596800_000_000, "0001-01-01T00:00:00"),
        ("datetime", 6, 253402300799_999_999, "9999-12-31T23:59:59.999999"),
        ("datetime", 3, -1_000, "1969-12-31T23:59:59.999"),
        ("timestamp", 1, 1_900_000, "1970-01-01T00:00:01.9Z"),
        ("time", 6, -3020399_000_001, "-838:59:59.000001"),
        ("time", 0, 3020399_000_000, "838:59:59"),
        ("time", 2, -10_000, "-00:00:00.01"),
        ("time", 5, 99 * 3600_000_000, "99:00:00.00000"),
        ("time", 0, 100 * 3600_000_000, "100:00:00"),
    ],
)
def test_times_at_their_limits(kind: str, fsp: int | None, value: int, text: str) -> None:
    column = Column("c", kind, fsp=fsp)
    stored = pa.array([None, value, None], pa.int32() if kind == "date" else pa.int64()).cast(arrow_type(column))
    assert render_column(column, stored.slice(1)).texts() == [f'"{text}"'.encode(), b"null"]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=40) | st.text('a"\\\n\x1f\x20\x7f\u00e9', max_size=40)))
def test_escapes_at_every_offset_of_a_word(values: list[str]) -> None:
    array = pa.array(["", *values]).slice(1)
    found = render_rows(len(values), [EnvelopePart(b"", strings(array))]).texts()
    assert [json.loads(text) for text in found] == values
    assert found == [json.dumps(value, ensure_ascii=False).encode() for value in values]


def test_texts_that_need_more_room_than_reserved() -> None:
    """Some rows need six bytes per character."""
    values = ["\x01" * size for size in (0, 1, 70_000, 3, 500_000, 8)]
    found = render_column(Column("c", "text"), pa.array(values))
    assert [json.loads(text) for text in found.texts()] == values
    assert found.offsets.tolist() == np.cumsum([0, *(2 + 6 * len(value) for value in values)]).tolist()


def test_labels_with_few_or_no_texts() -> None:
    def render(array: pa.Array) -> list[bytes]:
        return render_rows(len(array), [EnvelopePart(b"", labels(array))]).texts()

    def array(indices: list[int | None], names: list[str | None]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int16()), pa.array(names, pa.string()))

    assert render(array([0, 0], ['one"'])) == [b'"one\\""'] * 2
    assert render(array([0, None], ["one"])) == [b'"one"', b"null"]
    assert render(array([1, 0, 1], ["one", None])) == [b"null", b'"one"', b"null"]
    assert render(array([None, None], [])) == [b"null"] * 2
    assert render(array([9, 1, 2, 0], [str(n) for n in range(10)]).slice(1, 2)) == [b'"1"', b'"2"']


def test_a_null_image_is_written_once() -> None:
    kind = pa.struct([("a", pa.int32()), ("b", pa.string())])
    rows = [{"a": 1, "b": "x"}, None, {"a": None, "b": None}, None]
    for start in range(4):
        struct = pa.array(rows, kind).slice(start)
        parts = [
            EnvelopePart(b"["),
            EnvelopePart(b'{"a":', column_values(Column("a", "int"), struct.field(0)), struct),
            EnvelopePart(b',"b":', column_values(Column("b", "text"), struct.field(1)), struct),
            EnvelopePart(b"}", None, struct),
            EnvelopePart(b"]"),
        ]
        assert [json.loads(text) for text in render_rows(len(struct), parts).texts()] == [[row] for row in rows[start:]]


def test_lists_of_slices() -> None:
    column = Column("c", "vector")
    values: list[Any] = [[1.5], [], None, [-0.0, 2.25, 1e30], [3.0]]
    array = pa.array(values, arrow_type(column))
    for start in range(len(values)):
        assert [json.loads(text) for text in render_column(column, array.slice(start)).texts()] == values[start:]


def test_geometries_of_slices() -> None:
    column = Column("c", "point")
    values = [{"srid": 2**32 - 1, "wkb": b"\x00\xff"}, None, {"srid": 0, "wkb": b""}]
    texts = render_column(column, pa.array(values, arrow_type(column)).slice(1)).texts()
    assert texts == [b"null", b'{"srid":0,"wkb":""}']
    texts = render_column(column, pa.array(values, arrow_type(column)).slice(0, 1)).texts()
    assert texts == [b'{"srid":4294967295,"wkb":"AP8="}']


@pytest.mark.parametrize("size", range(7))
def test_base64_of_every_remainder(size: int) -> None:
    data = bytes(range(250, 256)) * 2
    [text] = render_column(Column("c", "blob"), pa.array([data[:size]])).texts()
    assert text == b'"' + base64.b64encode(data[:size]) + b'"'
