"""Rare types without a server: invalid bytes, the limits of each format, and a TABLE_MAP of many labels."""

from __future__ import annotations

import contextlib
import ipaddress
import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.binlog.tablemap import parse_table_map
from binlogsync.binlog.types.addresses import inet6_text, uuid_text
from binlogsync.binlog.types.compressed import inflated
from binlogsync.binlog.types.geometry import geometry_array
from binlogsync.binlog.types.vectors import vector_array
from tests.binlog.binlog_builder import ROWS, TABLE_MAP, BinlogBuilder
from tests.binlog.exact.value_kinds import KINDS


def _strings(values: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
    return offsets, np.frombuffer(b"".join(values), np.uint8)


@given(st.lists(st.none() | st.tuples(st.integers(0, 2**32 - 1), st.binary(min_size=5, max_size=40))))
def test_geometries_are_parsed(values: list[tuple[int, bytes] | None]) -> None:
    data = [b"" if value is None else value[0].to_bytes(4, "little") + value[1] for value in values]
    array = geometry_array(*_strings(data))
    array.validate(full=True)
    assert array.to_pylist() == [None if value is None else {"srid": value[0], "wkb": value[1]} for value in values]


@given(st.lists(st.none() | st.lists(st.floats(width=32, allow_nan=False), max_size=5)))
def test_vectors_are_parsed(values: list[list[float] | None]) -> None:
    data = [b"" if value is None else np.array(value, "<f4").tobytes() for value in values]
    nulls = [value is None for value in values]
    validity = pa.py_buffer(np.packbits(~np.array(nulls, np.bool_), bitorder="little"))
    array = vector_array(*_strings(data), validity, sum(nulls))
    array.validate(full=True)
    assert array.to_pylist() == values


def test_invalid_geometries_and_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="a geometry of 8 bytes"):
        geometry_array(*_strings([bytes(25), bytes(8)]))
    with pytest.raises(ValueError, match="multiple of four"):
        vector_array(*_strings([bytes(8), bytes(6), bytes(6)]), None, 0)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("value", [b"a", b"long enough " * 40, bytes(range(256)) * 300])
def test_compressed_values(value: bytes, wrapped: bool) -> None:
    compressor = zlib.compressobj(wbits=zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
    packed = compressor.compress(value) + compressor.flush()
    length = len(value).to_bytes(3, "big")
    assert inflated(bytes([0x80 | (0 if wrapped else 8) | 3]) + length + packed) == value
    assert inflated(b"\0" + value) == value
    assert inflated(b"") == b""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x10abc", "method 1"),
        (b"\x89\x05\xff\xff", "cannot be inflated"),
        (b"\x89", "does not end"),
        (b"\x89\x06" + zlib.compress(b"abcdef", wbits=-15) + b"x", "does not end"),
        (b"\x89\x05" + zlib.compress(b"abcdef", wbits=-15), "of 5 bytes inflates to 6"),
        (b"\x89\x07" + zlib.compress(b"abcdef", wbits=-15), "of 7 bytes inflates to 6"),
        (b"\x89\x05" + zlib.compress(bytes(10**6), wbits=-15), "of 5 bytes inflates to 6"),
    ],
)
def test_invalid_compressed_values_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        inflated(data)


@given(st.binary(max_size=40))
def test_any_bytes_are_decompressed_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert len(inflated(data)) < 2**24


@given(st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF]) | st.integers(0, 0xFFFF), min_size=8, max_size=8))
def test_addresses_read_back(words: list[int]) -> None:
    data = b"".join(word.to_bytes(2, "big") for word in words)
    assert ipaddress.IPv6Address(inet6_text(data)).packed == data


def test_a_uuid() -> None:
    assert uuid_text(bytes.fromhex("123e4567e89b12d3a456426655440000")) == "123e4567-e89b-12d3-a456-426655440000"


def _many_labels(count: int) -> bytes:
    """The TABLE_MAP of a table with one ENUM column of `count` labels."""
    head = (7).to_bytes(6, "little") + b"\1\0\1d\0\1t\0"
    labels = b"".join(bytes([len(label)]) + label for label in (f"{k:x}".encode() for k in range(count)))
    field = b"\xfc" + count.to_bytes(2, "little") + labels
    metadata = b"\x04\x02\x01e" + b"\x06\xfd" + len(field).to_bytes(3, "little") + field + b"\x0a\x01\x2d"
    return head + b"\x01\xfe\x02\xf7\x02\x01" + metadata


@pytest.mark.parametrize("count", [32767, 32768, 65534])
def test_an_enum_of_many_labels(count: int) -> None:
    row = (7).to_bytes(6, "little") + b"\1\0\2\0\1\xff"
    numbers = [1, 32767, count, 0]
    script = BinlogBuilder().begin(1).add(TABLE_MAP, _many_labels(count))
    for number in numbers:
        script.add(ROWS, row + b"\0" + number.to_bytes(2, "little"))
    done = script.commit().decoded()
    assert done.error is None
    assert [change.after for change in done.changes] == [{"e": text} for text in ("0", "7ffe", f"{count - 1:x}", "")]


def test_an_enum_of_too_many_labels_is_named() -> None:
    done = BinlogBuilder().begin(1).add(TABLE_MAP, _many_labels(65535)).decoded()
    assert done.error is not None
    assert "65535 labels" in str(done.error)
    assert done.error.column == "e"


@pytest.mark.parametrize(("code", "name"), [(0, "decimal of before MySQL 5.0"), (200, "type 200")])
def test_an_unknown_type_is_named_with_its_column(code: int, name: str) -> None:
    body = (7).to_bytes(6, "little") + b"\1\0\1d\0\1t\0" + b"\x01" + bytes([code]) + b"\0\x01\x04\x02\x01v"
    assert parse_table_map(body, mariadb=False).schema.columns[0].type == name
    done = BinlogBuilder().begin(1).add(TABLE_MAP, body).decoded()
    assert done.error is not None
    assert (done.error.table, done.error.column) == ("d.t", "v")
    assert f"columns of type {name} are not supported; exclude the table with a filter" in str(done.error)


def test_old_temporal_columns_of_a_mysql_that_was_upgraded() -> None:
    """They have no fraction, so no declaration is needed."""
    head = (7).to_bytes(6, "little") + b"\1\0\1d\0\1t\0"
    names = b"\x04\x06" + b"\x01a\x01b\x01c"
    table = head + b"\x03\x0b\x0c\x07" + b"\0" + b"\x07" + names
    row = (7).to_bytes(6, "little") + b"\1\0\2\0\3\xff"
    values = [
        (-123456 & 0xFFFFFF, 20240229123456, 1709210096),
        (8385959, 99991231235959, 2**31 - 1),
        (0, 20240231000000, 0),
    ]
    script = BinlogBuilder().begin(1).add(TABLE_MAP, table)
    for time, moment, stamp in values:
        packed = time.to_bytes(3, "little") + moment.to_bytes(8, "little") + stamp.to_bytes(4, "little")
        script.add(ROWS, row + b"\0" + packed)
    done = script.commit().decoded()
    assert done.error is None
    kinds = {name: KINDS[kind] for name, kind in (("a", "time"), ("b", "datetime"), ("c", "timestamp"))}
    assert [[kinds[k].row(v, 0) for k, v in (change.after or {}).items()] for change in done.changes] == [
        ["-12:34:56", "2024-02-29 12:34:56", "2024-02-29 12:34:56"],
        ["838:59:59", "9999-12-31 23:59:59", "2038-01-19 03:14:07"],
        ["00:00:00", "2024-02-31 00:00:00", "0000-00-00 00:00:00"],
    ]


def _one_column(code: int, meta: bytes, optional: bytes) -> bytes:
    head = (7).to_bytes(6, "little") + b"\1\0\1d\0\1t\0"
    return head + b"\x01" + bytes([code, len(meta)]) + meta + b"\x01" + optional


@pytest.mark.parametrize(
    ("optional", "declared"),
    [
        (b"\x04\x02\x01v", "int"),
        (b"\x04\x02\x01v\x01\x01\x80", "int unsigned"),
        (b"\x63\x03abc\x04\x02\x01v\x01\x01\x80", "int unsigned"),  # an unknown field, as a later MySQL may have
        (b"\x0c\x01\x00\x04\x02\x01v", "int"),
    ],
)
def test_fields_of_a_table_map_may_be_missing_or_new(optional: bytes, declared: str) -> None:
    [column] = parse_table_map(_one_column(3, b"", optional), mariadb=False).schema.columns
    assert (column.name, column.declaration) == ("v", declared)
    assert column.visible == (b"\x0c" not in optional)


@pytest.mark.parametrize(
    ("code", "meta", "optional", "words"),
    [
        (3, b"", b"\x04\x05\x01v", "5 bytes expected, 2 left"),
        (3, b"", b"\x04\x04\x01v\x01w", "2 names for 1 columns"),
        (3, b"", b"\x01\x00\x04\x02\x01v", "a bitmap of 0 bytes for 1 columns"),
        (3, b"", b"\x04\x02\x01v\x08\x01\x05", "a primary key of column number 6 in a table of 1 columns"),
        (15, b"\x0a\x00", b"\x04\x02\x01v\x02\x03\xfc\xff\xff", "collation number 65535 is not known"),
        (15, b"\x0a\x00", b"\x04\x02\x01v\x02\x03\x2d\x05\x2d", "a character set of text column 6 of 1"),
        (252, b"\x05", b"\x04\x02\x01v", "a BLOB with a length of 5 bytes"),
        (247, b"", b"\x04\x02\x01v", "2 bytes expected|1 bytes expected, 0 left"),
    ],
)
def test_an_invalid_table_map_is_refused(code: int, meta: bytes, optional: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_table_map(_one_column(code, meta, optional), mariadb=False)


@pytest.mark.parametrize(
    ("field", "kind"), [(b"", "geometry"), (b"\x07\x01\x03", "polygon"), (b"\x07\x01\x09", "geometry")]
)
def test_an_unknown_geometry_subtype_is_geometry(field: bytes, kind: str) -> None:
    [column] = parse_table_map(_one_column(255, b"\x04", b"\x04\x02\x01v" + field), mariadb=False).schema.columns
    assert column.type == kind
