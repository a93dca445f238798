"""`binlogsync consume`: prints the changes of one table from the stream, one JSON envelope per line.

It reads through a temporary durable, which it deletes at the end, so no other consumer is affected. The envelopes are
rendered again from the stream's messages: their `ts_ms` and `ts_us` (not those in `source`) are the time of printing.
"""

from __future__ import annotations

from argparse import Namespace

from binlogsync.cli.output import write_envelopes, write_message
from binlogsync.cli.table_argument import read_table
from binlogsync.nats.reader import StreamReader
from binlogsync.nats.temporary_durable import temporary_durable
from binlogsync.settings import Settings
from binlogsync.signals import stop_on_signals

_TIMEOUT_S = 10.0
_BATCH = 1000
_MAX_LISTED = 10


def run(settings: Settings, arguments: Namespace) -> int:
    """Print until the limit or Ctrl-C. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    database, table = read_table(settings, source, arguments.table)
    left: int | None = arguments.limit
    with stop_on_signals() as stop, StreamReader(settings.nats(_TIMEOUT_S), source) as reader:
        _warn_if_missing(reader, database, table)
        first = _first_sequence(reader, arguments.begin)
        with temporary_durable(reader, "look", (database, table), first) as durable:
            while not stop.is_set() and left != 0:
                for item in reader.fetch(durable, _BATCH if left is None else min(left, _BATCH)):
                    batch = item.batch.slice(0, len(item) if left is None else left)
                    write_envelopes([batch], source)
                    left = None if left is None else left - len(batch)
                    reader.ack(item)
    return 0


def _first_sequence(reader: StreamReader, begin: str | int) -> int:
    """Stream sequence to start at."""
    if isinstance(begin, int):
        return begin
    return reader.first_sequence() if begin == "first" else reader.last_sequence() + 1


def _warn_if_missing(reader: StreamReader, database: str, table: str) -> None:
    tables = reader.tables()
    if (database, table) in tables:
        return
    names = [".".join(name) for name in sorted(tables)]
    listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
    write_message(
        f"stream {reader.stream} contains no change of {database}.{table} yet; tables in it: {listed or 'none'}. "
        "Waiting; stop with Ctrl-C"
    )
