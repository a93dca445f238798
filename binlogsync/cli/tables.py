"""`binlogsync tables`: the list of the tables of a source, from which patterns of mirrors are resolved."""

from __future__ import annotations

import argparse

from binlogsync.cli.output import write_line, write_message
from binlogsync.errors import ConfigError
from binlogsync.filters import TableFilter
from binlogsync.settings import Settings
from binlogsync.table_list import load_table_list, save_table_list, table_list_path


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print the tables that match the patterns. Raises ConfigError, SourceError."""
    source, folder = settings.source(arguments.source), settings.table_lists()
    wanted = TableFilter(tuple(arguments.patterns))
    if arguments.refresh:
        from binlogsync.mysql.table_list import read_table_list

        try:
            save_table_list(folder, read_table_list(settings.mysql(source), source))
        except OSError as error:
            raise ConfigError(f"{table_list_path(folder, source)} cannot be written: {error.strerror}") from error
    tables = load_table_list(folder, source)
    if tables is None:
        raise ConfigError(
            f"source {source} has no list of tables yet: {table_list_path(folder, source)} does not exist; a tail in "
            "Dagster writes it, and so does binlogsync tables --refresh"
        )
    for table in tables.tables:
        if wanted.captures(table.database, table.table):
            key = ", ".join(column.name for column in table.columns if column.in_key) or "no key"
            write_line(f"{table.database}.{table.table}  {len(table.columns)} column(s), {key}")
    write_message(f"read from the server at {tables.read_at:%Y-%m-%d %H:%M:%S} UTC")
    return 0
