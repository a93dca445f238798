"""The arguments of `binlogsync mirror`, `models`, `skip`, `accept`, `gaps`, `remove` and `tables`."""

from __future__ import annotations

import argparse
from pathlib import Path

from binlogsync.cli.arguments.command import Command, add_client, add_table
from binlogsync.errors import ConfigError
from binlogsync.filters import TableFilter


def _add_mirror(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "patterns",
        type=_pattern,
        nargs="+",
        metavar="PATTERN",
        help="'shop.*' or shop.orders, also later tables",
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FILE", help="the DuckDB file, which is created if it is missing"
    )
    parser.add_argument(
        "--exclude", type=_pattern, action="append", default=[], metavar="PATTERN", help="tables to omit; repeatable"
    )
    parser.add_argument(
        "--until-caught-up", action="store_true", help="end when every table has all changes of the stream"
    )
    parser.add_argument(
        "--client", default="mirror", metavar="ID", help="client id of the mirrors' progress; default: mirror"
    )
    parser.add_argument(
        "--deleted-at", metavar="COLUMN", help="keep deleted rows, with the time of the delete in this extra column"
    )
    parser.add_argument(
        "--history", action="store_true", help="keep every version of every row in the table TABLE__history"
    )
    parser.add_argument(
        "--on-drop",
        choices=("drop", "keep", "archive"),
        default="drop",
        help="when MySQL drops a table: drop the mirror's, keep it, or rename it TABLE__dropped_TIME; default: drop",
    )
    parser.add_argument(
        "--key", action="append", default=[], metavar="COLUMN", help="identify rows by this column; repeatable"
    )
    parser.add_argument(
        "--target-schema",
        default="{database}",
        metavar="PATTERN",
        help="schema of the tables in FILE, with the placeholders {source}, {database}, {table}; default: {database}",
    )
    parser.add_argument(
        "--target-table",
        default="{table}",
        metavar="PATTERN",
        help="names of the tables in FILE, with the same placeholders; default: {table}",
    )
    parser.add_argument(
        "--metadata",
        action="append",
        choices=("_op", "_commit_ts", "_gtid"),
        default=[],
        help="add this column about the last change of a row; repeatable",
    )
    parser.add_argument(
        "--schema-contract",
        choices=("follow", "freeze"),
        default="follow",
        help="freeze: a change of columns blocks a table until binlogsync accept; default: follow",
    )
    parser.add_argument(
        "--together",
        action="store_true",
        help="show each transaction of MySQL in all tables at once; a blocked table then blocks the others",
    )
    # Without an option, the setting with its name counts.
    parser.add_argument("--rows-per-second", type=float, metavar="N", help="existing rows read per table; 0: no limit")
    parser.add_argument("--threads-running", type=int, metavar="N", help="pause loads above so many; 0: no limit")


def _pattern(text: str) -> str:
    try:
        TableFilter((text,))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _add_models(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument(
        "--kind", choices=("dataclass", "msgspec", "pydantic"), default="dataclass", help="kind of class"
    )
    parser.add_argument(
        "--from",
        dest="origin",
        choices=("mysql", "stream"),
        help="where to read the columns; default: MySQL, or the stream if MySQL cannot be reached",
    )


def _add_skip(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument("change_id", metavar="CHANGE", help="id of the change, from the handler's error")
    parser.add_argument("--reason", required=True, help="why the change is skipped; recorded")
    parser.add_argument("--by", metavar="NAME", help="who decides this; default: this account")
    add_client(parser, "client id of the consumer; default: dagster")


def _add_accept(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument("columns_id", metavar="ID", help="id of the new columns, from the error of the mirror")
    add_client(parser, "client id of the mirror; default: dagster")


def _add_gaps(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument(
        "--acknowledge", metavar="REASON", help="accept the open gaps of a handler for this reason, which is recorded"
    )
    parser.add_argument("--by", metavar="NAME", help="who accepts them; default: this account")
    add_client(parser, "client id of the consumer; default: dagster")


def _add_remove(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("table", metavar="DB.TABLE", nargs="?", help="the table of the consumer")
    what.add_argument("--whole-source", metavar="NAME", help="remove the whole source; repeats the name of the source")
    parser.add_argument(
        "--drop", action="store_true", help="also delete progress, and tables of mirrors; otherwise both are kept"
    )
    add_client(parser, "client id of the consumer; default: dagster")


def _add_tables(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("patterns", nargs="*", metavar="DB.TABLE", help="tables to print, * allowed; default: all")
    parser.add_argument("--refresh", action="store_true", help="read the tables from the server, and store the list")


MIRROR = Command(
    "mirror",
    "keep DuckDB tables equal to the tables of a stream",
    "Mirror all captured tables that match a pattern, with their existing rows, into a DuckDB file, without Dagster, "
    "until Ctrl-C or SIGTERM. The same command resumes after a stop or a kill.",
    "binlogsync mirror 'shop.*' crm.accounts --to warehouse.duckdb",
    _add_mirror,
    exit_codes="0 when stopped by Ctrl-C or SIGTERM; 1 when a table was still blocked at the end of --until-caught-up",
)
MODELS = Command(
    "models",
    "print a Python model of a table",
    "Print a Python class with one field per column of a table, for use in a handler.",
    "binlogsync models shop.orders --kind pydantic",
    _add_models,
)
SKIP = Command(
    "skip",
    "skip the one change that blocks a table",
    "Skip the change that a handler fails on, and record who decided this and why. The table resumes after it.",
    "binlogsync skip shop.orders CHANGE --reason 'a test order'",
    _add_skip,
)
ACCEPT = Command(
    "accept",
    "accept the new columns of a table whose columns are frozen",
    "A mirror with schema_contract freeze is blocked before a statement that changes its columns. Accept exactly the "
    "columns that its error shows; the mirror continues at its next attempt.",
    "binlogsync accept shop.orders 3f2a9c01b7de",
    _add_accept,
)
REMOVE = Command(
    "remove",
    "remove a consumer, or a whole source, with what is stored for it",
    "Delete the durable of a consumer that no longer runs. With --drop, also delete its progress, and the table of its "
    "mirror. With --whole-source, delete the stream of a source with all durables and buckets, its checkpoint and its "
    "bookmarks; its tail must not run.",
    "binlogsync remove shop.orders --drop",
    _add_remove,
)
TABLES = Command(
    "tables",
    "list the tables of a source, from which patterns of mirrors are resolved",
    "Print the tables of the stored list, which a tail in Dagster writes, without connecting to a server. With "
    "--refresh, read the list from the server first: tables that were dropped then disappear from it.",
    "binlogsync tables 'shop.*' --refresh",
    _add_tables,
)
GAPS = Command(
    "gaps",
    "list or accept changes that a consumer may have missed",
    "List the gaps of a consumer: changes that the stream or the binlog dropped before they were consumed. "
    "A mirror closes its gaps itself: it reads the table again.",
    "binlogsync gaps shop.orders",
    _add_gaps,
    exit_codes="1 while a gap is open",
)
