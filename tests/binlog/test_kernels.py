"""Kernels compared with Python's libraries: DECIMAL, dates and times, CRC-32, UTF-8, latin1."""

from __future__ import annotations

import zlib
from calendar import monthrange
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.binlog import crc
from binlogsync.binlog.memory import address
from binlogsync.binlog.types import decimals as decimal_kernels
from binlogsync.binlog.types import labels, temporal, text
from binlogsync.binlog.types.decimals import decimal_size, decimal_text
from binlogsync.binlog.types.jsonb import double_text
from binlogsync.binlog.value_pointers import ZEROS
from tests.compiled_kernels import compiled

EPOCH = date(1970, 1, 1)
_BYTES_OF_DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


crc32, decimal, decimals_ = (
    compiled(crc.crc32),
    compiled(decimal_kernels.decimal),
    compiled(decimal_kernels.decimals),
)
dates, datetimes = compiled(temporal.dates), compiled(temporal.datetimes)
timestamps, times = compiled(temporal.timestamps), compiled(temporal.times)
is_ascii, are_utf8, padded = compiled(text.is_ascii), compiled(text.are_utf8), compiled(text.padded)
strings, recoded_strings = compiled(text.strings), compiled(text.recoded_strings)


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(data), np.uint8)


def packed_decimal(value: Decimal, precision: int, scale: int) -> bytes:
    """A DECIMAL in the format of strings/decimal.cc, encoded from its description."""
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


@pytest.mark.slow
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
        pointers, _data = pointers_to(source.tobytes(), None, source.tobytes())
        column = np.full(3 * width, 0xAB, np.uint8)
        assert decimals_(address(pointers), 3, address(ZEROS), address(column), precision, scale) == -1
        assert column.tobytes() == target.tobytes() + bytes(width) + target.tobytes()
        assert Decimal(decimal_text(precision, scale, source.tobytes())) == value


@pytest.mark.parametrize(("precision", "scale"), [(1, 0), (9, 0), (18, 4), (20, 0), (65, 30), (5, 5)])
def test_a_group_with_too_many_digits_is_refused(precision: int, scale: int) -> None:
    source = as_array(b"\xff" * decimal_size(precision, scale))
    target = np.zeros(32, np.uint8)
    assert not decimal(address(target), 32 if precision > 38 else 16, address(source), precision, scale)
    pointers, _data = pointers_to(None, source.tobytes())
    column = np.zeros(64, np.uint8)
    assert decimals_(address(pointers), 2, address(ZEROS), address(column), precision, scale) == 1


def pointers_to(*values: bytes | None) -> tuple[np.ndarray, np.ndarray]:
    """Pointers to concatenated values, None for NULL; and the array of the bytes, which the caller has to keep."""
    data = as_array(b"".join(value or b"" for value in values) + bytes(8))
    pointers, at = [], address(data)
    for value in values:
        pointers.append(address(ZEROS) if value is None else at)
        at += len(value or b"")
    return np.array(pointers), data


def packed_date(year: int, month: int, day: int) -> bytes:
    return (year << 9 | month << 5 | day).to_bytes(3, "little")


def days_of(*values: bytes | None) -> tuple[list[int], list[int]]:
    """DATEs as days, and the rows with impossible dates."""
    pointers, _data = pointers_to(*values)
    target, wrong = np.full(len(values), 77, np.int32), np.zeros(len(values) + 1, np.int64)
    found = dates(
        address(pointers), len(values), address(ZEROS), address(temporal.MONTHS), address(target), address(wrong)
    )
    return target.tolist(), wrong[:found].tolist()


def micros_of(*values: bytes | None, fsp: int) -> tuple[list[int], list[int]]:
    """DATETIMEs as microseconds, and the rows with impossible dates."""
    pointers, _data = pointers_to(*values)
    target, wrong = np.full(len(values), 77, np.int64), np.zeros(len(values) + 1, np.int64)
    found = datetimes(
        address(pointers), len(values), address(ZEROS), address(temporal.MONTHS), address(target), address(wrong), fsp
    )
    return target.tolist(), wrong[:found].tolist()


def test_every_day_from_the_year_1_to_9999() -> None:
    days = [EPOCH.toordinal() + int(n) for n in range(-719162, 2932897, 13)]
    dates = [date.fromordinal(day) for day in [*days, 1, date(9999, 12, 31).toordinal()]]
    found, wrong = days_of(*(packed_date(day.year, day.month, day.day) for day in dates))
    assert found == [(day - EPOCH).days for day in dates]
    assert wrong == []


@pytest.mark.parametrize("year", [1, 4, 100, 400, 1582, 1900, 1970, 2000, 2023, 2024, 9999])
def test_the_first_and_last_day_of_every_month(year: int) -> None:
    for month in range(1, 13):
        last = monthrange(year, month)[1]
        found, wrong = days_of(*(packed_date(year, month, day) for day in (0, 1, last, min(last + 1, 31))))
        assert found[1:3] == [(date(year, month, day) - EPOCH).days for day in (1, last)]
        assert wrong == ([0, 3] if last < 31 else [0, 3][:1])


@given(st.dates())
def test_dates(day: date) -> None:
    assert days_of(None, packed_date(day.year, day.month, day.day)) == ([0, (day - EPOCH).days], [])


@given(st.integers(0, 10000), st.integers(0, 15), st.integers(0, 31))
def test_impossible_dates_are_distinguished(year: int, month: int, day: int) -> None:
    try:
        date(year, month, day)
        exists = True
    except ValueError:
        exists = False
    assert days_of(packed_date(year, month, day))[1] == ([] if exists else [0])


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
    (zeros, micros), wrong = micros_of(
        None, packed.to_bytes(5, "big") + fraction_bytes(value.microsecond, fsp), fsp=fsp
    )
    assert (zeros, wrong) == (0, [])
    assert datetime(1970, 1, 1) + timedelta(microseconds=micros) == value


@pytest.mark.parametrize(("hour", "micros"), [(24, 0), (31, 0), (23, 16777215)])
def test_an_impossible_time_of_day_is_not_added_to_the_date(hour: int, micros: int) -> None:
    day = (9999 * 13 + 12) << 5 | 31
    packed = (day << 17 | hour << 12 | 59 << 6 | 59) + 0x8000000000
    assert micros_of(packed.to_bytes(5, "big") + micros.to_bytes(3, "big"), fsp=6) == ([0], [0])


@given(st.integers(1, 2**32 - 1), st.integers(0, 999999), st.integers(0, 6))
def test_timestamps(seconds: int, micros: int, fsp: int) -> None:
    micros = cut(micros, fsp)
    zero = bytes(4 + (fsp + 1) // 2)
    pointers, _data = pointers_to(seconds.to_bytes(4, "big") + fraction_bytes(micros, fsp), None, zero)
    target, wrong = np.full(3, 77, np.int64), np.zeros(4, np.int64)
    found = timestamps(address(pointers), 3, address(ZEROS), address(target), address(wrong), fsp)
    assert target.tolist() == [seconds * 1_000_000 + micros, 0, 0]
    assert wrong[:found].tolist() == [2]


_LONGEST = (838 * 3600 + 59 * 60 + 59) * 1_000_000 + 999_999


@given(st.integers(-_LONGEST, _LONGEST), st.integers(0, 6))
def test_times(value: int, fsp: int) -> None:
    value = (-1 if value < 0 else 1) * cut(abs(value), fsp)
    seconds, micros = divmod(abs(value), 1_000_000)
    clock = seconds // 3600 << 12 | seconds // 60 % 60 << 6 | seconds % 60
    size = 3 + (fsp + 1) // 2
    number = clock << 8 * (size - 3) | int.from_bytes(fraction_bytes(micros, fsp), "big")
    packed = (1 << 8 * size - 1) + (-number if value < 0 else number)
    pointers, _data = pointers_to(packed.to_bytes(size, "big"), None)
    target = np.full(2, 77, np.int64)
    times(address(pointers), 2, address(ZEROS), address(target), fsp)
    assert target.tolist() == [value, 0]


@given(st.binary(max_size=400) | st.binary(min_size=60, max_size=70), st.integers(0, 15))
def test_crc32_equals_zlib_at_every_alignment(data: bytes, shift: int) -> None:
    buffer = as_array(bytes(shift) + data + b"x")
    assert crc32(address(buffer) + shift, len(data), address(crc.TABLES)) == zlib.crc32(data)


def test_crc32_of_every_length() -> None:
    data = np.random.default_rng(1).integers(0, 256, 1 << 20, np.uint8)
    for size in [*range(300), 1 << 20]:
        assert crc32(address(data), size, address(crc.TABLES)) == zlib.crc32(data[:size].tobytes()), size


@given(st.binary(max_size=40))
def test_ascii_is_detected(data: bytes) -> None:
    buffer = as_array(data + b"\x80")
    assert is_ascii(address(buffer), len(data)) == data.isascii()


def test_every_byte_of_latin1_is_windows_1252_or_a_control_character() -> None:
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
    padded(address(target), address(source), len(data), len(data) + more)
    assert target.tobytes() == data + bytes(more) + b"\xcc" * (64 - len(data) - more)


@given(st.lists(st.none() | st.text(max_size=20) | st.text("abc", min_size=50, max_size=140), max_size=6))
def test_strings_of_any_length_are_appended(values: list[str | None]) -> None:
    encoded = [None if value is None else value.encode() for value in values]
    pointers, data = pointers_to(
        *(None if value is None else len(value).to_bytes(2, "little") + value for value in encoded)
    )
    target, ends = np.full(2000, 0xCC, np.uint8), np.zeros(len(values), np.int32)
    limit = address(data) + len(data)
    used = strings(address(pointers), len(values), 2, limit, address(target), address(ends), 0)
    assert target[:used].tobytes() == b"".join(value or b"" for value in encoded)
    assert set(target[used + text.OVERRUN :].tolist()) <= {0xCC}
    assert ends.tolist() == np.cumsum([len(value or b"") for value in encoded]).tolist()


@pytest.mark.parametrize("charset", ["latin1", "swe7", "cp1251"])
def test_a_column_is_recoded_like_single_values(charset: str) -> None:
    values = [b"plain", None, bytes(range(0x20, 0x7F)), b"", bytes(range(0xC0, 0xE0)), b"@[]"]
    for chosen in (values, [value for value in values if value is None or value.isascii()]):
        pointers, data = pointers_to(*(None if value is None else bytes([len(value)]) + value for value in chosen))
        target, ends = np.zeros(2000, np.uint8), np.zeros(len(chosen), np.int32)
        table = address(text.RECODING_TABLES[text.RECODED_CHARSETS.index(charset)])
        limit = address(data) + len(data)
        used = recoded_strings(address(pointers), len(chosen), 1, limit, address(target), address(ends), 0, table)
        expected = ["" if value is None else text.decode_text(value, charset) for value in chosen]
        assert target[:used].tobytes() == "".join(expected).encode()
        assert ends.tolist() == np.cumsum([len(value.encode()) for value in expected]).tolist()


@given(
    st.lists(st.text(max_size=12) | st.text("aé€🐳", max_size=12), max_size=8),
    st.integers(0, 200),
    st.integers(0, 255) | st.none(),
)
def test_invalid_utf8_is_detected(values: list[str], at: int, byte: int | None) -> None:
    encoded = [value.encode() for value in values]
    data = as_array(b"".join(encoded) + bytes(8))
    used = len(data) - 8
    if byte is not None and used:
        data[at % used] = byte
    ends = np.cumsum([len(value) for value in encoded]).astype(np.int32)
    got = are_utf8(address(data), 0, used, address(ends), len(values))
    bounds = [0, *ends.tolist()]
    assert got == all(is_utf8(data[a:b].tobytes()) for a, b in pairwise(bounds))


@pytest.mark.parametrize(
    "data",
    [b"\xc0\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80"]
    + [b"\xed\x9f\xbf", b"\xf4\x8f\xbf\xbf", b"\xe2\x82", b"\xf0\x9f\x90", b"\x80", b"a\xc3\xa9b" * 9],
)
def test_utf8_at_its_limits(data: bytes) -> None:
    ends = np.array([len(data)], np.int32)
    assert are_utf8(address(as_array(data)), 0, len(data), address(ends), 1) == is_utf8(data)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.integers(1, 64), st.data())
def test_sets_are_their_labels_in_order(count: int, data: st.DataObject) -> None:
    names = tuple(f"label {k}"[: k % 9] + f"{k}" * (1 + 40 * (k % 5 == 4)) for k in range(count))
    masks = data.draw(st.lists(st.integers(0, 2**count - 1), max_size=600 if count < 9 else 20))
    array = labels.set_array(np.array(masks, np.uint64), names, None, 0)
    array.validate(full=True)
    assert array.to_pylist() == [[names[k] for k in range(count) if mask >> k & 1] for mask in masks]


def test_a_set_member_without_a_label_is_refused() -> None:
    with pytest.raises(ValueError, match="no label"):
        labels.set_array(np.array([0, 4], np.uint64), ("a", "b"), None, 0)


@pytest.mark.parametrize("names", [("a", "b", "c"), ("a", "", "c"), tuple(f"n{k}" for k in range(40000))])
def test_enums_are_their_labels(names: tuple[str, ...]) -> None:
    numbers = np.array([1, 3, labels.INVALID, 0, 2, len(names)], np.uint16)
    array = labels.enum_array(numbers, names, pa.py_buffer(b"\x37"), 1)
    array.validate(full=True)
    assert array.to_pylist() == [names[0], names[2], "", None, names[1], names[-1]]
    with pytest.raises(ValueError, match="no label"):
        labels.enum_array(np.array([len(names) + 1], np.uint16), names, None, 0)
