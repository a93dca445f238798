"""`binlogsync models`: a ready model for a table, as Python source on stdout.

The table is looked up in MySQL itself; where MySQL cannot be reached, or `--from stream` says so, the newest schema
that the stream has for it is taken.
"""

from __future__ import annotations

import sys
from argparse import Namespace

from binlogsync.commands.output import say
from binlogsync.commands.tables import read_table
from binlogsync.errors import BinlogSyncError, ConfigError, SourceError
from binlogsync.escaping import printable
from binlogsync.models.codegen import model_source
from binlogsync.mysql import declared_by
from binlogsync.schema import TableSchema
from binlogsync.settings import Settings
from binlogsync.stream.reader import StreamReader

_PATIENCE_S = 10.0


def run(settings: Settings, arguments: Namespace) -> int:
    """Print it. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    schema = _schema(settings, source, read_table(settings, source, arguments.table), arguments.origin)
    # Names and labels are literals there, so only comments can hold control characters.
    sys.stdout.write(printable(model_source(schema, arguments.kind)))
    return 0


def _schema(settings: Settings, source: str, table: tuple[str, str], origin: str | None) -> TableSchema:
    if origin == "stream":
        return _in_stream(settings, source, table)
    try:
        return _in_mysql(settings, source, table)
    except SourceError as error:
        if origin == "mysql":
            raise
        say(f"MySQL does not tell ({error}); looking into the stream")
    try:
        return _in_stream(settings, source, table)
    except BinlogSyncError as error:
        raise ConfigError(f"neither MySQL nor the stream tells of {'.'.join(table)}; the stream: {error}") from error


def _in_mysql(settings: Settings, source: str, table: tuple[str, str]) -> TableSchema:
    found = declared_by(settings.mysql(source))(*table)
    if found is None:
        raise ConfigError(f"MySQL has no table {'.'.join(table)}, or this account may not see it (GRANT SELECT)")
    return found.schema


def _in_stream(settings: Settings, source: str, table: tuple[str, str]) -> TableSchema:
    with StreamReader(settings.nats(_PATIENCE_S), source) as reader:
        schema = reader.newest_schema(*table)
        if schema is None:
            held = ", ".join(".".join(names) for names in sorted(reader.tables())) or "none"
            raise ConfigError(f"{reader.stream} holds no change of {'.'.join(table)}; it holds changes of: {held}")
        return schema
