"""Row events rendered directly as JSON, compared with the same events decoded to columns and then rendered."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from binlogsync.binlog import tablemap
from binlogsync.binlog.layout import ColumnError, Layout
from binlogsync.binlog.memory import address
from binlogsync.binlog.rendered import RenderedBatch
from binlogsync.binlog.scan_state import RowEvents
from binlogsync.binlog.tablemap import RawColumn, TableMap
from binlogsync.change import OPS
from binlogsync.change_batch import SOURCE_FIELDS, ChangeBatch, build_batch
from binlogsync.codec.envelope import EnvelopeContext, render
from binlogsync.codec.image_texts import ImageTextWriter
from binlogsync.schema import Column, TableSchema
from tests.binlog.captured import EVENTS, NAMES, TYPES, load
from tests.binlog.dump import DumpRecording
from tests.binlog.rendered_images import compare_rendered, packet_ends
from tests.examples import examples

pytestmark = pytest.mark.slow

_RENDERED = {"mysql": 12, "mariadb": 11, "mysql_events": 11, "mariadb_events": 7, "mysql_types": 2, "mariadb_types": 0}
"""Batches of the golden dumps that are rendered directly."""

Value = Callable[[random.Random], bytes]
LABELS = ("red", 'qu"ote', "", "ü", *(f"label {n}" for n in range(4, 64)))


@pytest.mark.parametrize("name", [*NAMES, *EVENTS, *TYPES])
def test_the_envelopes_of_golden_dumps_are_the_same(name: str) -> None:
    recording = load(name).recording
    rendered, _ = compare_rendered(recording, packet_ends(recording.raw))
    assert rendered == _RENDERED[name]


def test_a_copy_has_columns_and_equals_the_batch() -> None:
    recording = load("mysql").recording
    options = replace(recording.options, renderer=ImageTextWriter())
    done = DumpRecording(recording.raw, recording.start, options).decoded(packet_ends(recording.raw))
    found = [batch for part in done.ranges for batch in part.batches if isinstance(batch, RenderedBatch)]
    assert len(found) > 3
    for batch in found:
        for again in (copy.copy(batch), pickle.loads(pickle.dumps(batch))):
            assert type(again) is ChangeBatch
            assert again == batch
            assert batch == again
    assert found[0] != found[1]


def _bytes(size: int) -> Value:
    """Random bytes, and zeros and ones, which are special in most types."""
    return lambda chance: chance.choice((chance.randbytes(size), chance.randbytes(size), bytes(size), b"\xff" * size))


def _text(prefix: int, limit: int, encoding: str = "utf-8") -> Value:
    """Text with a length prefix, rarely invalid."""

    def make(chance: random.Random) -> bytes:
        letters = 'abc"\\\n\x00\x1f\x7f' + ("äé" if encoding == "latin-1" else "äé€🌲" if encoding == "utf-8" else "")
        text = "".join(chance.choice(letters) for _ in range(chance.randrange(limit // 4))).encode(encoding)
        text = text if chance.random() < 0.99 else text + b"\xed\xa0\x80"
        return len(text).to_bytes(prefix, "little") + text

    return make


def _binary(prefix: int, limit: int) -> Value:
    def make(chance: random.Random) -> bytes:
        data = chance.randbytes(chance.randrange(limit))
        return len(data).to_bytes(prefix, "little") + data

    return make


def _one_of(prefix: int, *values: bytes) -> Value:
    return lambda chance: (value := chance.choice(values)) and len(value).to_bytes(prefix, "little") + value


def _number(limit: int, size: int) -> Value:
    return lambda chance: chance.randrange(limit).to_bytes(size, "little")


def _moment(head: int, size: int) -> Value:
    """A TIME near a possible one: `size` bytes, of which the first is often `head`."""
    return lambda chance: bytes([chance.choice((head, head, head, chance.randrange(256)))]) + chance.randbytes(size - 1)


def _date(chance: random.Random) -> bytes:
    """A DATE that is often possible: a year up to 9999, month 2 or 10, day 1."""
    return bytes(
        (chance.choice((0x41, 0x41, 0x41, chance.randrange(256))), chance.randrange(256), chance.randrange(90))
    )


def _datetime(size: int) -> Value:
    """A DATETIME with fields that are nearly always possible."""

    def make(chance: random.Random) -> bytes:
        day = (chance.choice((0, 1, 1999, 2024, 9999)) * 13 + chance.randrange(1, 13)) << 5 | chance.randrange(1, 30)
        clock = chance.randrange(24) << 12 | chance.randrange(60) << 6 | chance.randrange(60)
        parts = (size - 5) * 2
        fraction = chance.randrange(10**parts).to_bytes(size - 5, "big")
        return (0x8000000000 + (day << 17 | clock)).to_bytes(5, "big") + fraction

    return make


def _decimal(precision: int, scale: int) -> Value:
    """Digits in groups of nine, rarely too many of them."""

    def make(chance: random.Random) -> bytes:
        whole = precision - scale
        groups = [whole % 9, *[9] * (whole // 9), *[9] * (scale // 9), scale % 9]
        sizes = [(0, 1, 1, 2, 2, 3, 3, 4, 4, 4)[digits] for digits in groups]
        small = chance.random() < 0.5
        packed = b"".join(
            chance.choice((0, 10**digits - 1, chance.randrange(10**digits) if not small or n > 2 else 0)).to_bytes(
                size, "big"
            )
            for n, (digits, size) in enumerate(zip(groups, sizes, strict=True))
        )
        packed = packed if chance.random() < 0.99 else chance.randbytes(len(packed))
        flip = chance.choice((0, 0xFF))
        return bytes([packed[0] ^ 0x80 ^ flip, *(byte ^ flip for byte in packed[1:])])

    return make


_JSON = (
    b"\x0c\x03abc",
    b"\x04\x00",
    b"\x05\xff\xff",
    b"\x00\x00\x00\x04\x00",
    b"\x0b\0\0\0\0\0\0\xf0\x3f",
    b"\x99",
    b"",
)
_COLUMNS: tuple[tuple[Column, RawColumn, Value], ...] = (
    *(
        (Column(f"{kind}{unsigned:d}", kind, unsigned=unsigned), RawColumn(code, 0), _bytes(size))
        for kind, code, size in (
            ("tinyint", 1, 1), ("smallint", 2, 2), ("mediumint", 9, 3), ("int", 3, 4), ("bigint", 8, 8),
        )
        for unsigned in (False, True)
    ),
    (Column("float", "float"), RawColumn(4, 4), _bytes(4)),
    (Column("double", "double"), RawColumn(5, 8), _bytes(8)),
    (Column("year", "year"), RawColumn(13, 0), _bytes(1)),
    (Column("bit1", "bit", length=1), RawColumn(16, 1, 1), _bytes(1)),
    (Column("bit60", "bit", length=60), RawColumn(16, 8, 60), _bytes(8)),
    *(
        (Column(f"decimal{p}_{s}", "decimal", precision=p, scale=s), RawColumn(246, p << 8 | s), _decimal(p, s))
        for p, s in ((1, 0), (10, 2), (18, 18), (20, 0), (38, 30), (65, 30), (5, 5))
    ),
    (Column("enum", "enum", charset="utf8mb4", labels=LABELS[:4]), RawColumn(247, 1), _number(6, 1)),
    (Column("enum2", "enum", charset="utf8mb4", labels=LABELS[:1]), RawColumn(247, 2), _number(2, 2)),
    (Column("set", "set", charset="utf8mb4", labels=LABELS[:4]), RawColumn(248, 1), _number(17, 1)),
    (Column("set64", "set", charset="utf8mb4", labels=LABELS), RawColumn(248, 8), _bytes(8)),
    (Column("date", "date"), RawColumn(10, 0), _date),
    *(
        (Column(f"{kind}{fsp}", kind, fsp=fsp), RawColumn(code, fsp), value)
        for fsp in range(7)
        for kind, code, value in (
            ("time", 19, _moment(0x80, 3 + (fsp + 1) // 2)),
            ("datetime", 18, _datetime(5 + (fsp + 1) // 2)),
            ("timestamp", 17, _bytes(4 + (fsp + 1) // 2)),
        )
    ),
    (Column("char", "char", length=60, charset="utf8mb4"), RawColumn(254, 240), _text(1, 60)),
    (Column("varchar", "varchar", length=300, charset="utf8mb3"), RawColumn(15, 900), _text(2, 300)),
    (Column("latin", "varchar", length=90, charset="latin1"), RawColumn(15, 90), _text(1, 90, "latin-1")),
    (Column("swedish", "char", length=90, charset="swe7"), RawColumn(254, 90), _text(1, 90, "ascii")),
    (Column("ascii", "text", charset="ascii"), RawColumn(252, 2), _text(2, 90, "ascii")),
    (Column("longtext", "longtext", charset="utf8mb4"), RawColumn(252, 4), _text(4, 900)),
    (Column("binary", "binary", length=20), RawColumn(254, 20), _binary(1, 21)),
    (Column("varbinary", "varbinary", length=20), RawColumn(15, 20), _binary(1, 20)),
    (Column("blob", "blob"), RawColumn(252, 3), _binary(3, 300)),
    (Column("json", "json"), RawColumn(tablemap.JSON, 4), _one_of(4, *_JSON)),
    (
        Column("json text", "json", charset="utf8mb4"), RawColumn(252, 4),
        _one_of(4, b'{"a":\n1}', b"[null]", b" null ", b"\xff", b'"\xc3\xbc"'),
    ),
)  # fmt: skip


def _image(columns: tuple[tuple[Column, RawColumn, Value], ...], chance: random.Random) -> bytes:
    nulls = [chance.random() < 0.2 for _ in columns]
    bits = sum(is_null << n for n, is_null in enumerate(nulls))
    values = [value(chance) for (_, _, value), is_null in zip(columns, nulls, strict=True) if not is_null]
    return bits.to_bytes((len(columns) + 7) // 8, "little") + b"".join(values)


def _rendered(layout: Layout, data: bytes, op: int) -> list[bytes] | None:
    """The images of the rows of one event, rendered directly."""
    events, memory = RowEvents.room_for(1), np.frombuffer(data, np.uint8)
    events.at[0] = address(memory)
    events.end[0], events.layout[0], events.op[0] = events.at[0] + len(data), 0, op
    found = ImageTextWriter().render(events, 1, [layout])
    assert found is not None
    return None if found[0] is None else [b'{"before":%b,"after":%b' % each for each in found[0]]


def _from_columns(layout: Layout, data: bytes, op: int) -> list[bytes] | None:
    """The same from columns; None if they cannot be decoded."""
    memory = np.frombuffer(data, np.uint8)
    try:
        part = layout.decode(address(memory), np.array([0]), np.array([len(data)]), np.array([op], np.int8))
    except ColumnError:
        return None
    count = len(part.ops)
    source = {field.name: pa.nulls(count, field.type) for field in SOURCE_FIELDS if field.name in ("gtid", "file")}
    zeros = {field.name: [0] * count for field in SOURCE_FIELDS if field.name not in source}
    ops = [OPS[op] for op in part.ops.tolist()]
    batch = build_batch(layout.schema, ops, part.images, {**source, **zeros}, ("server", 1), part.impossible)
    texts = render(batch, EnvelopeContext("x", 0)).texts()
    return [text.partition(b',"source":')[0] for text in texts]


@pytest.mark.generated
@pytest.mark.parametrize("column", range(len(_COLUMNS)), ids=lambda n: _COLUMNS[n][0].name)
def test_values_of_each_type_are_the_same(column: int) -> None:
    """Also invalid ones: an event that cannot be decoded is not rendered. Nearly all valid ones are rendered."""
    chance, chosen = random.Random(column), (_COLUMNS[column],)
    layout = _layout(chosen)
    rendered = valid = 0
    for _ in range(examples(120)):
        op = chance.randrange(3)
        data = b"".join(_image(chosen, chance) for _ in range(2 if op == 1 else 1) for _ in range(2))
        data = data if chance.random() < 0.9 else data[: chance.randrange(1, len(data) + 1)]
        direct, plain = _rendered(layout, data, op), _from_columns(layout, data, op)
        assert direct is None or direct == plain
        rendered, valid = rendered + (direct is not None), valid + (plain is not None)
    assert rendered > 30, (rendered, valid)


def _layout(chosen: tuple[tuple[Column, RawColumn, Value], ...]) -> Layout:
    schema = TableSchema("d", "t", tuple(column for column, _, _ in chosen))
    table = TableMap(7, schema, tuple(raw for _, raw, _ in chosen), has_names=True)
    everything = tuple(range(len(chosen)))
    return Layout.of(table, (everything, everything), captured=True)


@pytest.mark.generated
@pytest.mark.parametrize("seed", range(20))
def test_rows_of_many_columns_are_the_same(seed: int) -> None:
    chance = random.Random(seed)
    chosen = tuple(chance.sample(_COLUMNS, chance.randrange(1, 12)))
    layout = _layout(chosen)
    for _ in range(examples(40)):
        op = chance.randrange(3)
        data = b"".join(_image(chosen, chance) for _ in range(chance.choice((1, 2, 5)) * (2 if op == 1 else 1)))
        if chance.random() < 0.3:
            at = chance.randrange(len(data))
            data = chance.choice((data[:at], data[:at] + chance.randbytes(1) + data[at + 1 :]))
        direct = _rendered(layout, data, op)
        assert direct is None or direct == _from_columns(layout, data, op)


@pytest.mark.parametrize(
    ("tables", "each", "is_rendered"), [(1, 32, True), (1, 33, False), (10, 32, True), (20, 32, False)]
)
def test_many_events_become_columns(tables: int, each: int, is_rendered: bool) -> None:
    """A few for each table are rendered, and none if there are too many in all."""
    chance, chosen = random.Random(1), _COLUMNS[:3]
    layouts, events = [_layout(chosen) for _ in range(tables)], RowEvents.room_for(tables * each)
    memory = np.frombuffer(data := _image(chosen, chance), np.uint8)
    events.at[:], events.end[:], events.op[:] = address(memory), address(memory) + len(data), 0
    events.layout[:] = np.arange(tables * each) % tables
    found = ImageTextWriter().render(events, tables * each, layouts)
    assert (found is not None) == is_rendered
    assert found is None or all(texts is not None and len(texts) == 1 for texts in found)
