"""Kernels against what Python says: DECIMAL, dates and times, CRC-32, UTF-8, latin1."""

from __future__ import annotations

import zlib
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.binlog.crc import TABLES, crc32
from binlogsync.binlog.types import temporal, text
from binlogsync.binlog.types.decimals import decimal, decimal_size, decimal_text
from binlogsync.binlog.types.jsonb import double_text

EPOCH = date(1970, 1, 1)
_BYTES_OF_DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(data), np.uint8)


def packed_decimal(value: Decimal, precision: int, scale: int) -> bytes:
    """DECIMAL as strings/decimal.cc writes it, put together from its description."""
    digits = f"{abs(value):.{scale}f}".replace(".", "").rjust(precision, "0")[-precision:]
    whole, part = digits[: precision - scale], digits[precision - scale :]
    groups = [whole[: len(whole) % 9]] if len(whole) % 9 else []
    groups += [whole[i : i + 9] for i in range(len(whole) % 9, len(whole), 9)]
    groups += [part[i : i + 9] for i in range(0, len(part), 9)]
    data = bytearray(b"".join(int(group).to_bytes(_BYTES_OF_DIGITS[len(group)], "big") for group in groups))
    if value < 0:
        data = bytearray(byte ^ 0xFF for byte in data)
    data[0] ^= 0x80
    return bytes(data)


@st.composite
def decimals(draw: st.DrawFn) -> tuple[Decimal, int, int]:
    precision = draw(st.integers(1, 65))
    scale = draw(st.integers(0, min(30, precision)))
    digits = draw(st.integers(0, 10**precision - 1) | st.sampled_from([0, 1, 10**precision - 1]))
    with localcontext() as context:
        context.prec = 80
        value = Decimal(digits).scaleb(-scale)
        return (-value if draw(st.booleans()) else value), precision, scale


@given(decimals())
def test_decimals_of_every_shape(case: tuple[Decimal, int, int]) -> None:
    value, precision, scale = case
    with localcontext() as context:
        context.prec = 80
        source = as_array(packed_decimal(value, precision, scale))
        assert len(source) == decimal_size(precision, scale)
        width = 16 if precision <= 38 else 32
        target = np.full(width, 0xAB, np.uint8)
        assert decimal(address(target), width, address(source), precision, scale)
        got = int.from_bytes(target.tobytes(), "little", signed=True)
        assert Decimal(got).scaleb(-scale) == value
        assert Decimal(decimal_text(precision, scale, source.tobytes())) == value


@pytest.mark.parametrize(("precision", "scale"), [(1, 0), (9, 0), (18, 4), (20, 0), (65, 30), (5, 5)])
def test_a_group_with_too_many_digits_is_refused(precision: int, scale: int) -> None:
    source = as_array(b"\xff" * decimal_size(precision, scale))
    target = np.zeros(32, np.uint8)
    assert not decimal(address(target), 32 if precision > 38 else 16, address(source), precision, scale)


def test_every_year_from_1_to_9999() -> None:
    for year in range(1, 10000):
        first = (date(year, 1, 1) - EPOCH).days
        leap = (date(year, 3, 1) - date(year, 2, 28)).days - 1
        for month, day, number in ((1, 1, 0), (2, 28, 58), (3, 1, 59 + leap), (12, 31, 364 + leap)):
            assert temporal.days_since_epoch(year, month, day) == first + number
            assert temporal.possible(year, month, day)
        assert temporal.possible(year, 2, 29) == bool(leap)


@given(st.dates())
def test_dates(day: date) -> None:
    source = as_array(((day.year << 9) | (day.month << 5) | day.day).to_bytes(3, "little") + b"\0")
    target = np.zeros(1, np.int32)
    assert temporal.date(address(target), address(source)) == -1
    assert int(target[0]) == (day - EPOCH).days


@given(st.integers(0, 10000), st.integers(0, 13), st.integers(0, 31))
def test_dates_that_no_calendar_has_are_told_apart(year: int, month: int, day: int) -> None:
    try:
        date(year, month, day)
        exists = True
    except ValueError:
        exists = False
    assert temporal.possible(year, month, day) == exists


def fraction_bytes(micros: int, fsp: int) -> bytes:
    size = (fsp + 1) // 2
    return (micros // 10 ** (6 - 2 * size)).to_bytes(size, "big") if size else b""


def cut(micros: int, fsp: int) -> int:
    unit: int = 10 ** (6 - fsp)
    return micros - micros % unit


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)), st.integers(0, 6))
def test_datetimes(value: datetime, fsp: int) -> None:
    value = value.replace(microsecond=cut(value.microsecond, fsp))
    day = (value.year * 13 + value.month) << 5 | value.day
    packed = (day << 17 | value.hour << 12 | value.minute << 6 | value.second) + 0x8000000000
    source = as_array(packed.to_bytes(5, "big") + fraction_bytes(value.microsecond, fsp) + bytes(4))
    target = np.zeros(1, np.int64)
    assert temporal.datetime(address(target), address(source), fsp) == -1
    assert datetime(1970, 1, 1) + timedelta(microseconds=int(target[0])) == value


@pytest.mark.parametrize(("hour", "micros"), [(24, 0), (31, 0), (23, 16777215)])
def test_a_time_of_day_that_no_clock_has_is_not_added_to_the_date(hour: int, micros: int) -> None:
    day = (9999 * 13 + 12) << 5 | 31
    packed = (day << 17 | hour << 12 | 59 << 6 | 59) + 0x8000000000
    source = as_array(packed.to_bytes(5, "big") + micros.to_bytes(3, "big") + bytes(4))
    target = np.zeros(1, np.int64)
    assert temporal.datetime(address(target), address(source), 6) != -1


@given(st.integers(1, 2**32 - 1), st.integers(0, 999999), st.integers(0, 6))
def test_timestamps(seconds: int, micros: int, fsp: int) -> None:
    micros = cut(micros, fsp)
    source = as_array(seconds.to_bytes(4, "big") + fraction_bytes(micros, fsp) + bytes(4))
    target = np.zeros(1, np.int64)
    assert temporal.timestamp(address(target), address(source), fsp) == -1
    assert int(target[0]) == seconds * 1_000_000 + micros


_LONGEST = (838 * 3600 + 59 * 60 + 59) * 1_000_000 + 999_999


@given(st.integers(-_LONGEST, _LONGEST), st.integers(0, 6))
def test_times(value: int, fsp: int) -> None:
    value = (-1 if value < 0 else 1) * cut(abs(value), fsp)
    seconds, micros = divmod(abs(value), 1_000_000)
    clock = seconds // 3600 << 12 | seconds // 60 % 60 << 6 | seconds % 60
    size = 3 + (fsp + 1) // 2
    number = clock << 8 * (size - 3) | int.from_bytes(fraction_bytes(micros, fsp), "big")
    packed = (1 << 8 * size - 1) + (-number if value < 0 else number)
    source = as_array(packed.to_bytes(size, "big") + bytes(8))
    target = np.zeros(1, np.int64)
    temporal.time(address(target), address(source), fsp)
    assert int(target[0]) == value


@given(st.binary(max_size=400) | st.binary(min_size=60, max_size=70), st.integers(0, 15))
def test_crc32_equals_zlib_at_every_alignment(data: bytes, shift: int) -> None:
    buffer = as_array(bytes(shift) + data + b"x")
    assert crc32(address(buffer) + shift, len(data), TABLES) == zlib.crc32(data)


@pytest.mark.parametrize("size", [*range(300), 1 << 20])
def test_crc32_of_every_length(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size + 1, np.uint8)
    assert crc32(address(data), size, TABLES) == zlib.crc32(data[:size].tobytes())


@given(st.binary(max_size=40))
def test_ascii_is_told_from_the_rest(data: bytes) -> None:
    buffer = as_array(data + b"\x80")
    assert text.is_ascii(address(buffer), len(data)) == data.isascii()


def test_every_byte_of_latin1_is_windows_1252_with_controls_in_its_holes() -> None:
    for code in range(256):
        expected = bytes([code]).decode("latin1" if code in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else "cp1252")
        assert text.decode_text(bytes([code]), "latin1") == expected


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_doubles_read_back(value: float) -> None:
    assert float(double_text(value)) == value
    assert set(double_text(value)) & set(".e")


@given(st.binary(min_size=1, max_size=30), st.integers(0, 20))
def test_binary_is_padded_with_zeros(data: bytes, more: int) -> None:
    source, target = as_array(data), np.full(64, 0xCC, np.uint8)
    text.padded(address(target), address(source), len(data), len(data) + more)
    assert target.tobytes() == data + bytes(more) + b"\xcc" * (64 - len(data) - more)
