"""Output of commands: envelopes and results on stdout, messages on stderr.

Control characters in rows, names and messages of servers are escaped, so a terminal does not interpret them. Envelopes
stay exact: on a terminal the few control characters that JSON allows are written as equivalent JSON escapes.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.envelope import EnvelopeContext, render
from binlogsync.escaping import printable

# DEL and the control characters of Latin-1 in UTF-8, which JSON may hold unescaped.
_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]")


def write_message(text: str) -> None:
    """Write a message to stderr."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def write_line(text: str) -> None:
    """Write a line of the result to stdout."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def write_envelopes(batches: Sequence[ChangeBatch], source: str) -> None:
    """Write the changes in binlog order (`seq`), one JSON envelope per line, and flush.

    Raises BrokenPipeError when the reader has closed the pipe, WireError for a value that JSON cannot represent.
    """
    context = EnvelopeContext(source, time.time_ns() // 1000)
    lines: list[tuple[int, bytes]] = []
    for batch in (batch for batch in batches if batch.ddl is None):
        lines += zip(batch.data.column("seq").to_pylist(), render(batch, context).texts(), strict=True)
    lines.sort(key=lambda line: line[0])
    text = b"".join(line + b"\n" for _, line in lines)
    sys.stdout.buffer.write(_CONTROLS.sub(_escape_as_json, text) if sys.stdout.isatty() else text)
    sys.stdout.buffer.flush()


def _escape_as_json(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % match[0][-1]
