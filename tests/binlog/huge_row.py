"""Decodes one row of `--mib` MiB, in chunks as from a socket, and prints the peak memory use.

`python -m tests.binlog.huge_row --mib 300` prints JSON with the increase of this process's peak memory, and the time.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from binlogsync.binlog.reader import BinlogReader, ReaderOptions
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from tests.binlog.binlog_builder import ROWS, BinlogBuilder, rows_body

_CHUNK = 4 << 20
_LIMIT = 0xFFFFFF


def _pieces(size: int) -> Iterator[bytes]:
    """Generate the packets of a row event with a value of `size` bytes."""
    begin = BinlogBuilder().begin(1).table()
    head = rows_body([b""])[:-4] + size.to_bytes(4, "little")
    length = 19 + len(head) + size + 4
    header = bytes(4) + bytes([ROWS]) + bytes(4) + length.to_bytes(4, "little") + bytes(6)
    checksum = zlib.crc32(header + head)
    yield begin.raw()[:-9]
    left, number, pending = length + 1, 1, b"\0" + header + head
    written = 0
    while left >= 0:
        packet = min(left, _LIMIT)
        yield packet.to_bytes(3, "little") + bytes([number & 0xFF])
        number, left = number + 1, left - packet if packet == _LIMIT else -1
        while packet:
            if not pending:
                part = min(_CHUNK, size - written)
                pending = np.full(part, number & 0xFF, np.uint8).tobytes() if part else checksum.to_bytes(4, "little")
                checksum = zlib.crc32(pending, checksum) if part else checksum
                written += part
            yield pending[:packet]
            packet, pending = packet - len(pending[:packet]), pending[packet:]
    yield BinlogBuilder().commit().raw()[len(BinlogBuilder().raw()) - 9 : -9]


def main() -> None:
    """Decode the row and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=300)
    size = parser.parse_args().mib << 20
    BinlogBuilder().begin(1).table().row(b"warm").commit().decoded()
    reader = BinlogReader(
        ReaderOptions("server", 1), Checkpoint(BinlogPosition("binlog.000001", 4), "server", GtidSet())
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    lengths = []
    buffer = np.empty(_CHUNK + 64, np.uint8)
    for piece in _pieces(size):
        buffer[: len(piece)] = np.frombuffer(piece, np.uint8)
        for decoded_range in reader.feed(buffer, 0, len(piece)):
            for batch in decoded_range.batches:
                lengths += pc.binary_length(pc.struct_field(batch.data.column("after"), "b")).to_pylist()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = round(time.monotonic() - begun, 2)
    print(json.dumps({"lengths": lengths, "peak_mib": (peak - before) >> 10, "seconds": seconds}))  # noqa: T201


if __name__ == "__main__":
    main()
