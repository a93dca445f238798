"""What commands write: envelopes a line each on stdout, and words for people on stderr.

Nothing that a row, a name or a message of others holds reaches a terminal as an instruction: it is escaped. Envelopes
stay exact: on a terminal the few control characters that JSON allows are written as JSON escapes, which mean the same.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence

from binlogsync.change import ChangeBatch
from binlogsync.escaping import printable
from binlogsync.wire.envelope import EnvelopeContext, render

# DEL and the control characters of Latin-1 in UTF-8, which JSON may hold unescaped.
_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]")


def say(text: str) -> None:
    """A line for people."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def write_line(text: str) -> None:
    """A line of the answer, on stdout."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def write_envelopes(batches: Sequence[ChangeBatch], source: str) -> None:
    """The changes in binlog order (`seq`), a JSON envelope a line, and flush.

    Raises BrokenPipeError when nobody reads any more, WireError for a value without a form in JSON.
    """
    context = EnvelopeContext(source, time.time_ns() // 1000)
    lines: list[tuple[int, bytes]] = []
    for batch in (batch for batch in batches if batch.ddl is None):
        lines += zip(batch.data.column("seq").to_pylist(), render(batch, context).texts(), strict=True)
    lines.sort(key=lambda line: line[0])
    text = b"".join(line + b"\n" for _, line in lines)
    sys.stdout.buffer.write(_CONTROLS.sub(_as_json, text) if sys.stdout.isatty() else text)
    sys.stdout.buffer.flush()


def _as_json(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % match[0][-1]
