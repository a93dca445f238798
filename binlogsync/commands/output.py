"""What commands write: envelopes a line each on stdout, and words for people on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from binlogsync.change import ChangeBatch
from binlogsync.wire.envelope import EnvelopeContext, render


def say(text: str) -> None:
    """A line for people."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def write_envelopes(batches: Sequence[ChangeBatch], source: str) -> None:
    """The changes in binlog order (`seq`), a JSON envelope a line, and flush.

    Raises BrokenPipeError when nobody reads any more, WireError for a value without a form in JSON.
    """
    context = EnvelopeContext(source, time.time_ns() // 1000)
    lines: list[tuple[int, bytes]] = []
    for batch in (batch for batch in batches if batch.ddl is None):
        lines += zip(batch.data.column("seq").to_pylist(), render(batch, context).texts(), strict=True)
    lines.sort(key=lambda line: line[0])
    sys.stdout.buffer.write(b"".join(line + b"\n" for _, line in lines))
    sys.stdout.buffer.flush()
