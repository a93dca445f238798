"""The arguments of `binlogsync snapshot`."""

from __future__ import annotations

import argparse

from binlogsync.cli.arguments.command import Command

ACTIONS = ("status", "pause", "resume", "cancel")


def _rate(text: str) -> float:
    """Parse a number above 0."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return found


def _add_snapshot(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "%(prog)s [-h] [--source NAME] [-v] [--where SQL] [--consumer NAME]\n"
        "                          [--rows-per-second N] [--no-wait] PATTERN ...\n"
        "       %(prog)s {status,pause,resume,cancel} [ID]"
    )
    parser.add_argument(
        "what",
        nargs="+",
        metavar="PATTERN",
        help="tables to publish: 'shop.*' or shop.orders. Or an action: status, pause, resume or cancel, and the id of "
        "a snapshot; status without an id lists all, the others act on the only one that has not ended",
    )
    parser.add_argument("--where", metavar="SQL", help="a condition for the rows, for one table: \"status = 'open'\"")
    parser.add_argument(
        "--consumer",
        metavar="NAME",
        help="publish the rows for this consumer alone: its client id, such as dagster or mirror; default: for all",
    )
    parser.add_argument("--rows-per-second", type=_rate, metavar="N", help="limit of the rate; default: no limit")
    parser.add_argument("--no-wait", action="store_true", help="print the id and end; default: show progress")


def check_snapshot(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Set `action` and `id`; exits with code 2 for arguments that do not belong together, or a wrong pattern."""
    from binlogsync.errors import ConfigError
    from binlogsync.filters import TableFilter

    parsed.action = parsed.id = None
    if parsed.what[0] in ACTIONS:
        parsed.action, *ids = parsed.what
        parsed.id = ids[0] if ids else None
        if len(ids) > 1:
            parser.error(f"snapshot {parsed.action}: give at most one id")
        given = (parsed.where, parsed.consumer, parsed.rows_per_second)
        if parsed.no_wait or any(each is not None for each in given):
            parser.error(f"snapshot {parsed.action} takes only an id")
        return
    try:
        TableFilter(tuple(parsed.what))
    except ConfigError as error:
        parser.error(f"snapshot: {error}")
    if parsed.where is not None and not parsed.where.strip():
        parser.error("snapshot: --where is empty; leave it out to publish all rows")
    if parsed.consumer == "":
        parser.error("snapshot: --consumer is empty; leave it out to publish the rows for all")


SNAPSHOT = Command(
    "snapshot",
    "publish the existing rows of tables into the stream",
    "Have the tail publish the existing rows of tables into the stream, among the changes, with the operation r: "
    "handlers, mirrors and readers get each row as it is at that point of the stream. The tail must be running; it "
    "continues if this command ends, and resumes after a restart. The first line of the output is the id.",
    "binlogsync snapshot 'shop.*' --rows-per-second 5000",
    _add_snapshot,
    exit_codes="1: the snapshot, or one of its tables, failed or was cancelled; the same for status ID",
)
