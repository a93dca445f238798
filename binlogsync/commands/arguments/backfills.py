"""The arguments of `binlogsync bookmarks`, `replay` and `rewind`."""

from __future__ import annotations

import argparse
from pathlib import Path

from binlogsync.commands.arguments.command import Command, add_table, common, count

_ENDS = (
    "An end of a range is a bookmark (its key or name), oldest, head, a time such as 2026-01-31T12:00:00Z, a GTID set, "
    "binlog.000042:1187, or seq:12345 for a message of the stream."
)


def _add_bookmarks(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|add|import|pin|unpin|delete")
    actions.add_parser("list", parents=[common()], help="key, reason, when it was made, sequence, pinned, GTID set")
    add = actions.add_parser("add", parents=[common()], help="keep a place under a name, until somebody deletes it")
    add.add_argument("name", help="what people call it; part of its key")
    add.add_argument("--at", default="head", metavar="END", help="the place; by default where MySQL's binlog ends now")
    foreign = actions.add_parser("import", parents=[common()], help="keep the place of another tool, to go on there")
    foreign.add_argument("file", help="Maxwell's or Debezium's position as JSON, or the Go tool's; - reads stdin")
    foreign.add_argument("--name", default="", help="what people call it; by default the tool's name")
    for name, meaning in (("pin", "keep it"), ("unpin", "let it go as others do"), ("delete", "remove it")):
        action = actions.add_parser(name, parents=[common()], help=meaning)
        action.add_argument("bookmark", help="its key, or its name")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument("--from", dest="begin", required=True, metavar="END", help="where the range begins")
    parser.add_argument("--until", default="head", metavar="END", help="where it ends; by default head")
    parser.add_argument(
        "--to",
        default="table",
        metavar="TARGET",
        help="parquet:FOLDER, subject:NAME (cdc.NAME.db.table), handler (the table's own, called again), or table "
        "(replay_<db>.<table> in the warehouse, made anew; the default)",
    )
    parser.add_argument(
        "--origin", choices=("auto", "stream", "binlog"), default="auto", help="where to read; by default what holds it"
    )
    parser.add_argument(
        "--batch", type=count, default=50_000, metavar="N", help="changes stored at once, about (50000)"
    )


def _add_rewind(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument("--to", required=True, metavar="END", help="the place")
    parser.add_argument("--client", default="dagster", metavar="NAME", help="whose progress (dagster)")
    parser.add_argument(
        "--progress",
        type=Path,
        metavar="FILE",
        help="the DuckDB file it is kept in; by default the warehouse for the client dagster, NATS for any other",
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="for the record; needed to go forward")
    parser.add_argument(
        "--rebuild", action="store_true", help="read the mirror's table again, and put that in its place in one step"
    )


BOOKMARKS = Command(
    "bookmarks",
    "list, add, pin and delete the places that a backfill or rewind can name",
    "The places that are kept. The tail records them as it goes; these commands are for people.",
    _add_bookmarks,
)
REPLAY = Command(
    "replay",
    "backfill: an exact range of a table's past into files, a table, a handler or a subject",
    "Every change of the range once, in order, from the stream while it holds the range, else from MySQL's binlogs. A "
    f"stopped replay goes on when the same words are given again. {_ENDS}",
    _add_replay,
)
REWIND = Command(
    "rewind",
    "set a consumer back to a place, or forward over a range",
    "Exactly the changes from the place on come again; forward, those in between never come. A consumer that runs "
    f"meanwhile is refused its next transaction, so start it again. {_ENDS}",
    _add_rewind,
)
