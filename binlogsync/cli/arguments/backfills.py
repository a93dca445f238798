"""The arguments of `binlogsync bookmarks`, `replay` and `rewind`."""

from __future__ import annotations

import argparse
from pathlib import Path

from binlogsync.cli.arguments.command import Command, add_client, add_table, common, count

_POSITIONS = (
    "A POSITION is a bookmark (its key or name), oldest, head, a time such as 2026-01-31T12:00:00Z, a GTID set, "
    "binlog.000042:1187, or seq:12345 for a message of the stream."
)


def _add_bookmarks(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|add|import|pin|unpin|delete")
    actions.add_parser("list", parents=[common()], help="print key, reason, time, stream sequence, pinned, GTID set")
    add = actions.add_parser("add", parents=[common()], help="store a position under a name, until it is deleted")
    add.add_argument("name", help="a name for it; part of its key")
    add.add_argument(
        "--at", default="head", metavar="POSITION", help="the position; default: head, the end of the binlog"
    )
    foreign = actions.add_parser(
        "import", parents=[common()], help="store the position of another tool, to resume from it"
    )
    foreign.add_argument(
        "file", type=Path, help="Maxwell's or Debezium's position as JSON, or the Go tool's; - reads stdin"
    )
    foreign.add_argument("--name", default="", help="a name for it; default: the name of the tool")
    for name, meaning in (
        ("pin", "exempt it from automatic removal"),
        ("unpin", "allow automatic removal again"),
        ("delete", "delete it"),
    ):
        action = actions.add_parser(name, parents=[common()], help=meaning)
        action.add_argument("bookmark", help="its key, or its name")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument("--from", dest="begin", required=True, metavar="POSITION", help="start of the range")
    parser.add_argument("--until", default="head", metavar="POSITION", help="end of the range; default: head")
    parser.add_argument(
        "--to",
        default="table",
        metavar="TARGET",
        help="parquet:FOLDER, subject:NAME (cdc.NAME.db.table), handler (calls the table's own handler again), or "
        "table (the default: replay_<db>.<table> in the warehouse, which is replaced)",
    )
    parser.add_argument(
        "--origin",
        choices=("auto", "stream", "binlog"),
        default="auto",
        help="where to read from; default: auto, the stream if it still has the range, else the binlogs",
    )
    parser.add_argument(
        "--batch", type=count, default=50_000, metavar="N", help="changes per transaction, about; default: 50000"
    )


def _add_rewind(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument("--to", required=True, metavar="POSITION", help="the new position")
    add_client(parser, "client id of the consumer; default: dagster")
    parser.add_argument(
        "--reason", default="", metavar="TEXT", help="recorded; required to move forward without --rebuild"
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="rebuild the mirror from the table, and replace it in one transaction"
    )


BOOKMARKS = Command(
    "bookmarks",
    "list, add, import, pin and delete bookmarks for replay and rewind",
    "Manage bookmarks: stored positions. The tail adds them automatically; these commands add more and remove some.",
    "binlogsync bookmarks add before-release",
    _add_bookmarks,
)
REPLAY = Command(
    "replay",
    "deliver a range of a table's past to files, a table or a handler",
    "Deliver every change of a range once, in order, from the stream if it still has the range, else from MySQL's "
    f"binlogs. A stopped replay resumes when the same command runs again. {_POSITIONS}",
    "binlogsync replay shop.orders --from oldest --to parquet:orders",
    _add_replay,
    exit_codes="1 when stopped by Ctrl-C before the end of the range",
)
REWIND = Command(
    "rewind",
    "move a consumer back to a position, or forward over a range",
    "Move a consumer. Back: it receives every change after the position again. Forward: it never receives the changes "
    f"in between. A consumer that is running fails at its next transaction; start it again. {_POSITIONS}",
    "binlogsync rewind shop.orders --to before-release",
    _add_rewind,
)
