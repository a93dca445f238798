"""`binlogsync consume`: the envelopes of one table out of the stream, a JSON line each, for a quick look.

Reads through a durable of its own, which is deleted at the end, so that no consumer is disturbed. Envelopes are written
anew from what the stream holds: their own `ts_ms` and `ts_us` (not those in `source`) are the time of the look.
"""

from __future__ import annotations

import secrets
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from binlogsync.commands.output import say, write_envelopes
from binlogsync.commands.tables import read_table
from binlogsync.errors import BinlogSyncError
from binlogsync.settings import Settings
from binlogsync.signals import stop_on_signals
from binlogsync.stream.reader import StreamReader
from binlogsync.wire.subjects import durable_name

_PATIENCE_S = 10.0
_FETCH = 1000
_SHOWN = 10


def run(settings: Settings, arguments: Namespace) -> int:
    """Print until the limit or Ctrl-C. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    database, table = read_table(settings, source, arguments.table)
    left: int | None = arguments.limit
    with stop_on_signals() as stop, StreamReader(settings.nats(_PATIENCE_S), source) as reader:
        _say_when_missing(reader, database, table)
        with _durable(reader, (database, table), _first(reader, arguments.begin)) as durable:
            while not stop.is_set() and left != 0:
                for item in reader.fetch(durable, _FETCH if left is None else min(left, _FETCH)):
                    batch = item.batch if left is None else item.batch.slice(0, min(left, len(item)))
                    write_envelopes([batch], source)
                    left = None if left is None else left - len(batch)
                    reader.ack(item)
    return 0


@contextmanager
def _durable(reader: StreamReader, table: tuple[str, str], first: int) -> Iterator[str]:
    """A durable that lives as long as the block."""
    name = durable_name(f"look-{secrets.token_hex(4)}", *table)
    try:
        reader.ensure_durable(name, *table, first)
        yield name
    finally:
        try:
            reader.delete_durable(name)
        except BinlogSyncError as error:
            say(f"a temporary durable is left ({error}); delete it with: nats consumer rm {reader.stream} '{name}'")


def _first(reader: StreamReader, begin: str | int) -> int:
    """Stream sequence to begin at."""
    if isinstance(begin, int):
        return begin
    return reader.first_sequence() if begin == "first" else reader.last_sequence() + 1


def _say_when_missing(reader: StreamReader, database: str, table: str) -> None:
    held = reader.tables()
    if (database, table) in held:
        return
    names = [".".join(names) for names in sorted(held)]
    some = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    say(
        f"{reader.stream} holds no change of {database}.{table} yet; it holds {some or 'none at all'}. "
        "Waiting; Ctrl-C ends"
    )
