"""`binlogsync models`: prints a Python model of a table.

The columns come from MySQL; if MySQL cannot be reached, or with `--from stream`, from the newest schema of the table in
the stream.
"""

from __future__ import annotations

import sys
from argparse import Namespace

from binlogsync.cli.output import write_message
from binlogsync.cli.table_argument import read_table
from binlogsync.errors import BinlogSyncError, ConfigError, SourceError
from binlogsync.escaping import printable
from binlogsync.models.codegen import model_source
from binlogsync.mysql import declaration_reader
from binlogsync.nats.newest_schema import find_newest_schema
from binlogsync.nats.reader import StreamReader
from binlogsync.schema import TableSchema
from binlogsync.settings import Settings

_TIMEOUT_S = 10.0


def run(settings: Settings, arguments: Namespace) -> int:
    """Print the model. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    schema = _read_schema(settings, source, read_table(settings, source, arguments.table), arguments.origin)
    # Names and labels are literals there, so only comments can hold control characters.
    sys.stdout.write(printable(model_source(schema, arguments.kind)))
    return 0


def _read_schema(settings: Settings, source: str, table: tuple[str, str], origin: str | None) -> TableSchema:
    if origin == "stream":
        return _read_stream_schema(settings, source, table)
    try:
        return _read_mysql_schema(settings, source, table)
    except SourceError as error:
        if origin == "mysql":
            raise
        write_message(f"MySQL cannot be read ({error}); reading the stream instead")
    try:
        return _read_stream_schema(settings, source, table)
    except BinlogSyncError as error:
        raise ConfigError(
            f"neither MySQL nor the stream has a schema of {'.'.join(table)}; the stream: {error}"
        ) from error


def _read_mysql_schema(settings: Settings, source: str, table: tuple[str, str]) -> TableSchema:
    found = declaration_reader(settings.mysql(source))(*table)
    if found is None:
        raise ConfigError(f"MySQL has no table {'.'.join(table)}, or this account has no access to it (GRANT SELECT)")
    return found.schema


def _read_stream_schema(settings: Settings, source: str, table: tuple[str, str]) -> TableSchema:
    with StreamReader(settings.nats(_TIMEOUT_S), source) as reader:
        schema = find_newest_schema(reader, *table)
        if schema is None:
            tables = ", ".join(".".join(name) for name in sorted(reader.tables())) or "none"
            raise ConfigError(f"stream {reader.stream} contains no change of {'.'.join(table)}; tables in it: {tables}")
        return schema
