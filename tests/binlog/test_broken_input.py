"""Damaged bytes end in a DecodeError, in "ended" or in "needs more": never in a hang or a crash.

With checksums, never in a wrong row either.

More cases: python -m tests.binlog.damage --count 100000 --seed 1
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.binlog.captured import EVENTS, NAMES, TYPES, CapturedDump, load, summary
from tests.binlog.damage import FAMILIES, check, dump_of, packets, signed, without_checksums
from tests.binlog.dump import DecodedDump, DumpRecording, decode
from tests.examples import examples

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
_CASES = 12

# Cases of damage.DamageFamily.run that once failed.
FOUND = (
    ("golden", 1354),
    ("golden", 3679),
    ("golden", 50746),
    ("golden", 51819),
    ("golden", 52780),
    ("events", 1403),
    ("events", 12438),
    ("events", 35364),
    ("types", 12769),
)


@pytest.mark.slow
@pytest.mark.generated
def test_generated_damage_in_a_separate_process() -> None:
    cases = examples(_CASES)
    command = [sys.executable, "-m", "tests.binlog.damage", "--dumps", *FAMILIES, "--count", str(cases)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["executions"] == cases * len(FAMILIES)


@pytest.mark.parametrize(("dumps", "seed"), FOUND)
def test_damage_that_once_failed(dumps: str, seed: int) -> None:
    FAMILIES[dumps].run(seed)


@pytest.fixture(params=(*NAMES, *EVENTS, *TYPES))
def golden(request: pytest.FixtureRequest) -> CapturedDump:
    return load(request.param)


def _decode(golden: CapturedDump, raw: bytes) -> DecodedDump:
    return DumpRecording(raw, golden.recording.start, golden.recording.options).decoded()


def _without_place(change: list[Any]) -> list[Any]:
    return [*change[:6], *change[7:]]


def test_a_dump_without_checksums_has_the_same_changes(golden: CapturedDump) -> None:
    done = _decode(golden, without_checksums(golden.recording.raw))
    assert done.error is None
    assert done.reader.ended
    # Where MariaDB logs no offsets, they are computed from sizes, and these events are four bytes shorter.
    assert [_without_place(summary(change)) for change in done.changes] == [*map(_without_place, golden.expected)]


@pytest.mark.slow
def test_every_truncation_delivers_a_prefix_and_needs_more(golden: CapturedDump) -> None:
    raw = golden.recording.raw
    for size in range(0, len(raw) - 1, 211):
        done = _decode(golden, raw[:size])
        assert check(done, golden, exact=True) == "needs more"


def test_a_flipped_bit_in_any_event_is_a_bad_checksum(golden: CapturedDump) -> None:
    """In the first event of each type, and in every seventh of all."""
    payloads = packets(golden.recording.raw)
    first = {payload[5]: i for i, payload in reversed([*enumerate(payloads[:-1])])}
    for i in sorted({*first.values(), *range(0, len(payloads) - 1, 7)}):
        payload = payloads[i]
        event = bytearray(payload)
        event[-7] ^= 4
        done = _decode(golden, dump_of([*payloads[:i], bytes(event), *payloads[i + 1 :]]))
        assert done.error is not None, f"event {i} of type {payload[5]}"
        assert "checksum" in str(done.error) or i == 0
        check(done, golden, exact=True)


@pytest.mark.parametrize("codes", [range(first, first + 64) for first in range(0, 256, 64)], ids=str)
def test_every_event_type_is_read_or_refused(codes: range) -> None:
    golden = load("mysql")
    raw = without_checksums(golden.recording.raw)
    payloads = packets(raw)
    rows = next(i for i, payload in enumerate(payloads) if payload[5] == 30)
    for code in codes:
        inserted = b"\0" + bytes(4) + bytes([code]) + bytes(4) + (19 + 30).to_bytes(4, "little") + bytes(36)
        for position in (2, rows + 1):  # the latter is inside a transaction
            damaged = [*payloads[:position], inserted, *payloads[position : position + 20]]
            check(_decode(golden, dump_of(damaged)), golden, exact=False)


def test_rows_that_name_another_number_of_columns_are_malformed() -> None:
    golden = load("mysql")
    payloads = packets(golden.recording.raw)
    i = next(i for i, payload in enumerate(payloads) if payload[5] == 30)
    event = bytearray(payloads[i][1:])
    event[19 + 10] -= 1  # after table id, flags and extra bytes
    done = _decode(golden, dump_of([*payloads[:i], b"\0" + signed(bytes(event)), *payloads[i + 1 :]]))
    assert done.error is not None
    assert done.error.file == "binlog.000001"
    assert not done.changes


def test_null_bits_of_not_null_columns_do_not_overflow_memory() -> None:
    """A row of NULLs is shorter than any valid row, so an event may have more rows than memory was reserved for."""
    golden = load("mysql")
    payloads = packets(golden.recording.raw)
    i = next(i for i, payload in enumerate(payloads) if payload[5] == 30)
    head = payloads[i][1:-4]
    event = bytearray(head[: 19 + 10 + 1 + 4] + b"\xff" * 20_000 + bytes(4))
    event[9:13] = len(event).to_bytes(4, "little")
    done = _decode(golden, dump_of([*payloads[:i], b"\0" + signed(bytes(event)), *payloads[i + 1 :]]))
    assert done.error is not None
    assert "golden.kinds" in str(done.error)


@pytest.mark.parametrize(
    "payload",
    [b"HTTP/1.1 400 Bad Request", b"", b"\0", bytes(64), b"\0" + b"\xff" * 64, b"\x01" + bytes(range(64))],
    ids=lambda payload: payload[:4].hex() or "empty",
)
def test_an_invalid_packet_is_refused_with_its_position(payload: bytes) -> None:
    recording = load("mysql").recording
    done = decode(dump_of([payload]), recording.options, recording.start)
    assert done.error is not None
    assert (done.error.file, done.error.pos) == (recording.start.position.file, recording.start.position.pos)
    assert not done.changes
