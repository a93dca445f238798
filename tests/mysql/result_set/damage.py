"""Damaged results, decoded: `python -m tests.mysql.result_set.damage --count 100000 --seed 1`.

Each case takes the packets of a result with columns of all kinds, and truncates them, flips bits, overwrites or removes
bytes. It passes if the reader returns valid arrays, or raises a BinlogSyncError. The bytes end at a page that cannot be
read, so a kernel that reads beyond them ends the process.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import mmap
import random
import struct
import sys
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pymysql

from binlogsync.errors import BinlogSyncError
from binlogsync.mysql.result_set.columns import RowLayout
from binlogsync.mysql.result_set.packets import ReceiveBuffer
from binlogsync.mysql.result_set.reader import RowReader, TableRows
from binlogsync.schema import Column, TableSchema
from tests.binlog.damage import IN_BYTES, dump_of

END = b"\xfe\x00\x00\x02\x00"
_ERROR = b"\xff\x15\x04#28000stopped"
SCHEMA = TableSchema(
    "shop",
    "kinds",
    (
        *(Column(f"i{bits}", kind, unsigned=bits == 8) for bits, kind in ((8, "tinyint"), (24, "mediumint"))),
        Column("i64", "bigint"),
        Column("f", "double"),
        Column("y", "year"),
        *(Column(f"d{p}", "decimal", precision=p, scale=s) for p, s in ((5, 2), (17, 17), (18, 0), (38, 10), (65, 30))),
        Column("day", "date"),
        Column("at", "datetime", fsp=6),
        Column("t", "time", fsp=6),
        Column("b", "bit", length=64),
        Column("e", "enum", labels=("a", "b"), charset="utf8mb4"),
        Column("s", "set", labels=("p", "q", "r"), charset="utf8mb4"),
        Column("odd", "enum", labels=("?", "b"), charset="ucs2"),
        Column("v", "varchar", length=99, charset="latin1"),
        Column("x", "longblob"),
        Column("g", "point"),
        Column("n", "vector", length=2),
    ),
)
_FIXED = {"tinyint": "B", "mediumint": "i", "bigint": "q", "double": "d", "year": "H"}


def prefixed(data: bytes) -> bytes:
    """A string with its length."""
    size = len(data)
    if size < 251:
        return bytes([size]) + data
    return (b"\xfc" + struct.pack("<H", size) if size < 1 << 16 else b"\xfd" + struct.pack("<I", size)[:3]) + data


def cell(column: Column, value: Any) -> bytes:
    """A value of SCHEMA as the server sends it; dates and times are tuples of their parts."""
    kind = column.type
    if kind in _FIXED:
        return struct.pack("<" + _FIXED[kind], value)
    if column.name in ("e", "s"):
        return struct.pack("<Q", value)
    if kind == "decimal":
        return prefixed(f"{value:.{column.scale}f}".encode())
    if isinstance(value, tuple):
        form = {0: "", 4: "<HBB", 7: "<HBBBBB", 11: "<HBBBBBI"} if kind != "time" else {0: "", 12: "<BIBBBI"}
        size = {0: 0, 3: 4, 6: 7, 7: 11}[len(value)] if kind != "time" else 12
        return prefixed(struct.pack(form[size], *value))
    return prefixed(value)


def row_of(values: Sequence[Any]) -> bytes:
    """The payload of a row; None is NULL."""
    bits = bytearray((len(values) + 9) // 8)
    for k, value in enumerate(values):
        bits[(k + 2) // 8] |= (value is None) << (k + 2) % 8
    cells = (cell(c, v) for c, v in zip(SCHEMA.columns, values, strict=True) if v is not None)
    return b"\0" + bytes(bits) + b"".join(cells)


def sample(chance: random.Random) -> list[Any]:
    """Values of one row."""
    big = Decimal(chance.randrange(-(10**4), 10**4))
    values = (
        chance.randrange(256), chance.randrange(-(2**23), 2**23), chance.randrange(-(2**63), 2**63), chance.random(),
        chance.choice((0, 1999)), big / 100, Decimal("0.5"), big, big / 100, -big * 10**20,
        chance.choice(((2024, 2, 29), (2024, 2, 31), ())),
        chance.choice(((1999, 12, 31), (1, 1, 1, 23, 59, 59), (2024, 1, 1, 1, 1, 1, 999_999), (), (0, 0, 5))),
        chance.choice(((1, 34, 22, 59, 59, 999_999), (0, 0, 0, 0, 1, 0))),
        chance.randbytes(8), chance.randrange(3), chance.randrange(8), chance.choice((b"\0b", b"\xd8\0", b"")),
        "é€".encode() * chance.choice((0, 3, 60)), chance.randbytes(chance.choice((0, 9, 300))),
        bytes(4) + chance.randbytes(21), struct.pack("<2f", chance.random(), -1),
    )  # fmt: skip
    return [None if chance.random() < 0.1 else value for value in values]


class GuardedMemory:
    """Memory whose last byte is followed by a page that cannot be read."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self._size = -(-size // page) * page
        self._map = mmap.mmap(-1, self._size + page)
        self.bytes = np.frombuffer(self._map, np.uint8)[: self._size]
        begin = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(begin + self._size), page, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")


class Answer:
    """Gives the bytes of a result, in pieces, and then no more."""

    def __init__(self, data: bytes, chance: random.Random) -> None:
        self._left = data
        self._chance = chance

    def take_buffered(self) -> bytes:
        return self._next(self._chance.choice((1, 50, 8192)))

    def readinto(self, view: memoryview) -> int:
        found = self._next(min(len(view), self._chance.choice((3, 200, 1 << 20))))
        view[: len(found)] = found
        return len(found)

    def has_bytes(self, timeout_ms: int) -> bool:
        return self._chance.random() < 0.9

    def _next(self, size: int) -> bytes:
        found, self._left = self._left[:size], self._left[size:]
        return found


_MEMORY = GuardedMemory(64 << 10)


def read(data: bytes, chance: random.Random, batch_rows: int = 1_000) -> list[TableRows]:
    """Decode the packets of a result; raises an error of this package or of pymysql."""
    layout = RowLayout.of(SCHEMA, mariadb=False)
    buffer = ReceiveBuffer(Answer(data, chance))
    # No longer than the bytes, so that the last ones lie at the end of the memory.
    buffer.data = _MEMORY.bytes[-max(len(data), 8) :]
    return list(RowReader(layout, buffer, batch_rows, 0, lambda: None).batches())


def run_case(seed: int) -> str:
    """Damage one result and decode it."""
    chance = random.Random(seed)
    rows = [row_of(sample(chance)) for _ in range(chance.choice((1, 5, 40, 150)))]
    # Sequence numbers as the damage functions write them: from 0.
    raw = dump_of([*rows, chance.choice((END, END, _ERROR))])
    try:
        batches = read(chance.choice(IN_BYTES)(raw, chance), chance, chance.choice((1, 7, 1_000)))
    except (BinlogSyncError, pymysql.MySQLError) as error:
        return type(error).__name__
    except ValueError:
        return "invalid"
    for batch in batches:
        batch.image.validate(full=True)
        assert batch.image.type == SCHEMA.image_type()
        for texts in batch.impossible.values():
            texts.validate(full=True)
    return "read"


def main() -> None:
    """Run the cases seed..seed+count-1 and print how they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    faulthandler.enable()
    ends: Counter[str] = Counter()
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        faulthandler.dump_traceback_later(20, exit=True)
        try:
            ends[run_case(seed)] += 1
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    sys.stdout.write(f"{dict(ends)}\n")


if __name__ == "__main__":
    main()
