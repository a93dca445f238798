"""Each renderer compared with Python's libraries, for generated values, NULLs and slices; then parsed back."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogsync.codec.column_parser import RAW_TYPES, read_column
from binlogsync.codec.renderers import render_column
from binlogsync.errors import WireError
from binlogsync.schema import Column, arrow_type
from tests.examples import examples

TEXT = st.text(st.characters(codec="utf-8"))
LABELS = ("red", 'qu"ote', "", "ü")


def _integers(column: Column) -> st.SearchStrategy[Any]:
    bits = int(str(arrow_type(column)).lstrip("uint"))
    return st.integers(0, 2**bits - 1) if column.unsigned else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    largest = 10**precision - 1
    return st.integers(-largest, largest).map(lambda n: Decimal(f"{n}e-{scale}"))


def _time_text(value: timedelta, fsp: int) -> str:
    total = abs(value) // timedelta(microseconds=1)
    text = f"{total // 3_600_000_000:02d}:{total // 60_000_000 % 60:02d}:{total // 1_000_000 % 60:02d}"
    fraction = f".{total % 1_000_000:06d}"[: fsp + 1] if fsp else ""
    return ("-" if value < timedelta(0) else "") + text + fraction


def _datetime_text(value: datetime, fsp: int) -> str:
    text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
    return text[: 20 + fsp] if fsp else text[:19]


def _cut_datetime(value: datetime, fsp: int) -> datetime:
    step = 10 ** (6 - fsp)
    return value.replace(microsecond=value.microsecond // step * step)


def _whole(value: timedelta, fsp: int) -> timedelta:
    step = 10 ** (6 - fsp)
    micros = abs(value) // timedelta(microseconds=1) // step * step
    return timedelta(microseconds=-micros if value < timedelta(0) else micros)


LONGEST_TIME = timedelta(hours=838, minutes=59, seconds=59)
TIMES = st.timedeltas(-LONGEST_TIME, LONGEST_TIME)
DATETIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)

Case = tuple[Column, st.SearchStrategy[Any], Callable[[Any], Any]]
CASES: list[Case] = [
    *(
        (column, _integers(column), lambda v: v)
        for kind in ("tinyint", "smallint", "mediumint", "int", "bigint")
        for column in (Column("c", kind), Column("c", kind, unsigned=True))
    ),
    (Column("c", "year"), st.integers(0, 2155), lambda v: v),
    (Column("c", "bit", length=1), st.booleans(), lambda v: v),
    (Column("c", "bit", length=64), st.integers(0, 2**64 - 1), lambda v: v),
    (Column("c", "double"), st.floats(allow_nan=False, allow_infinity=False), lambda v: v),
    (Column("c", "float"), FLOATS, lambda v: v),
    *(
        (Column("c", "decimal", precision=p, scale=s), _decimals(p, s), lambda v: f"{v:f}")
        for p, s in ((1, 0), (10, 2), (18, 18), (38, 7), (39, 0), (65, 30))
    ),
    (Column("c", "date"), st.dates(), date.isoformat),
    *(
        (
            Column("c", "datetime", fsp=fsp),
            DATETIMES.map(partial(_cut_datetime, fsp=fsp)),
            partial(_datetime_text, fsp=fsp),
        )
        for fsp in (0, 1, 3, 6)
    ),
    (
        Column("c", "timestamp", fsp=6),
        DATETIMES.map(lambda v: v.replace(tzinfo=UTC)),
        lambda v: _datetime_text(v, 6) + "Z",
    ),
    *(
        (
            Column("c", "time", fsp=fsp),
            TIMES.map(partial(_whole, fsp=fsp)),
            partial(_time_text, fsp=fsp),
        )
        for fsp in (0, 2, 6)
    ),
    (Column("c", "varchar", length=9, charset="utf8mb4"), TEXT, lambda v: v),
    (Column("c", "blob"), st.binary(), lambda v: base64.b64encode(v).decode()),
    (Column("c", "enum", labels=LABELS), st.sampled_from(LABELS), lambda v: v),
    (Column("c", "vector"), st.lists(FLOATS, max_size=5), lambda v: v),
    (
        Column("c", "point"),
        st.fixed_dictionaries({"srid": st.integers(0, 2**32 - 1), "wkb": st.binary()}),
        lambda v: {"srid": v["srid"], "wkb": base64.b64encode(v["wkb"]).decode()},
    ),
    *((Column("c", kind), TEXT, lambda v: v) for kind in ("uuid", "inet4", "inet6")),
    (Column("c", "set", labels=LABELS), st.lists(st.sampled_from(LABELS), unique=True), lambda v: v),
]


def named(case: Case) -> str:
    return case[0].declaration


@pytest.mark.generated
@pytest.mark.parametrize("case", CASES, ids=named)
@settings(max_examples=examples(20), deadline=None)
@given(data=st.data())
def test_values_as_json_and_back(case: Case, data: st.DataObject) -> None:
    column, strategy, expected = case
    values = data.draw(st.lists(st.none() | strategy, max_size=12))
    start = data.draw(st.integers(0, len(values)))
    array = pa.array(values, arrow_type(column)).slice(start)
    own = values[start:]

    texts = render_column(column, array).texts()

    decoded = [json.loads(text) for text in texts]
    if column.type in ("float", "double"):
        decoded = [None if v is None else float(text) for v, text in zip(decoded, texts, strict=True)]
    wanted = [None if v is None else expected(v) for v in own]
    if column.type == "vector":
        decoded = [None if v is None else [_float32(float(item)) for item in v] for v in decoded]
    if column.type == "float":
        decoded = [None if v is None else _float32(v) for v in decoded]
    assert decoded == wanted
    assert [type(v) for v in decoded] == [type(v) for v in wanted]

    raw = column.type in RAW_TYPES
    back, impossible = read_column(column, texts if raw else decoded)
    assert impossible is None
    assert back.to_pylist() == array.to_pylist()
    assert back.type == array.type


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1.7976931348623157e308, 1e21, 1e22, 0.1, 123456789012345680.0])
def test_doubles_are_shortest_json(value: float) -> None:
    column = Column("c", "double")
    [text] = render_column(column, pa.array([value])).texts()
    json.loads(text)
    assert len(text) <= len(repr(value))
    [back] = read_column(column, [text])[0].to_pylist()
    assert (back, math.copysign(1, back)) == (value, math.copysign(1, value))


@given(FLOATS)
def test_floats_are_shortest_json(value: float) -> None:
    """No more digits than numpy's shortest form of the same float32 has."""
    [text] = render_column(Column("c", "float"), pa.array([value], pa.float32())).texts()
    json.loads(text)
    assert np.float32(text.decode()) == np.float32(value)
    digits = Decimal(text.decode()).normalize().as_tuple().digits
    assert len(digits) <= len(Decimal(str(np.float32(value))).normalize().as_tuple().digits)


@given(TEXT)
def test_escapes_are_those_of_json(text: str) -> None:
    [rendered] = render_column(Column("c", "text"), pa.array([text])).texts()
    assert rendered == json.dumps(text, ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["a\u2028b", "\x00\x1f\x7f", '"\\/', "\ud7ff\U0010ffff", "\b\f\n\r\t"])
def test_awkward_text(text: str) -> None:
    [rendered] = render_column(Column("c", "text"), pa.array([text])).texts()
    assert json.loads(rendered) == text


IMPOSSIBLE = {
    "date": ["0000-00-00", "2024-02-30", "2024-00-10", "2023-02-29"],
    "datetime": ["0000-00-00 00:00:00", "2024-04-31 10:00:00.123456"],
    "timestamp": ["0000-00-00 00:00:00"],
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_impossible_dates_keep_their_text(kind: str) -> None:
    column = Column("c", kind, fsp=6)
    texts = pa.array([None, *IMPOSSIBLE[kind], None], pa.string())
    array = pa.array([None] * (len(texts) - 1) + [0], pa.int32() if kind == "date" else pa.int64()).cast(
        arrow_type(column)
    )

    rendered = [json.loads(text) for text in render_column(column, array, texts).texts()]

    assert rendered[:-1] == texts.to_pylist()[:-1]
    back, impossible = read_column(column, rendered)
    assert back.equals(array)
    assert impossible is not None
    assert impossible.to_pylist() == texts.to_pylist()


def test_json_keeps_its_digits_and_loses_line_ends() -> None:
    texts = ['{"a": 1.10, "b": 12345678901234567890123}', None, "null", "[1,\n2]"]
    rendered = render_column(Column("c", "json"), pa.array(texts)).texts()
    assert rendered == [texts[0].encode() if texts[0] else b"", b"null", b"null", b"[1, 2]"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (Column("c", "tinyint"), 128),
        (Column("c", "int", unsigned=True), -1),
        (Column("c", "decimal", precision=5, scale=2), "1.234"),
        (Column("c", "decimal", precision=5, scale=2), "x"),
        (Column("c", "blob"), "*"),
    ],
)
def test_values_that_do_not_fit_are_refused(column: Column, value: Any) -> None:
    with pytest.raises(WireError, match="column c: a value does not fit"):
        read_column(column, [value])


def test_a_type_without_a_renderer_is_refused() -> None:
    with pytest.raises(WireError, match="type 99 has no form"):
        render_column(Column("c", "type 99"), pa.array([b""]))


def test_no_rows() -> None:
    for column, _, _ in CASES:
        assert len(render_column(column, pa.array([], arrow_type(column)))) == 0


def test_offsets_are_those_of_the_data() -> None:
    fragments = render_column(Column("c", "int"), pa.array([1, None, -30], pa.int32()))
    assert fragments.offsets.dtype == np.int64
    assert fragments.offsets.tolist() == [0, 1, 5, 8]
