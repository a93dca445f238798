"""The arguments of `binlogsync doctor`, `tail`, `consume`, `verify` and `config`."""

from __future__ import annotations

import argparse
from pathlib import Path

from binlogsync.cli.arguments.command import Command, add_table, count


def _add_tail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--take-over", action="store_true", help="claim the source even if another tail seems to be running"
    )
    parser.add_argument(
        "--accept-gap",
        metavar="REASON",
        help="if the server has purged the next changes: accept that they are lost, for this reason, which is recorded",
    )
    parser.add_argument(
        "--gap-start", metavar="POSITION", default="oldest", help="where to start after the gap; default: oldest"
    )
    stdout = parser.add_argument_group("without NATS")
    stdout.add_argument(
        "--stdout", action="store_true", help="print the changes, one JSON envelope per line; store nothing"
    )
    stdout.add_argument(
        "--start",
        metavar="POSITION",
        help="now, oldest, binlog.000042:1187, a GTID set or an ISO time; default: BINLOGSYNC_START",
    )
    for name, meaning in (("include", "print"), ("exclude", "omit")):
        stdout.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="DB.TABLE",
            help=f"tables to {meaning}, * allowed; may be repeated; default: BINLOGSYNC_{name.upper()}",
        )


def check_tail(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Exit with code 2 when options of the tail that stores and of `tail --stdout` are mixed."""
    if parsed.stdout and parsed.accept_gap:
        parser.error("--accept-gap: tail --stdout stores no position, so it cannot have a gap")
    if parsed.stdout and parsed.take_over:
        parser.error("--take-over: tail --stdout takes no lease, so there is none to take over")
    if not parsed.stdout and (parsed.start or parsed.include or parsed.exclude):
        parser.error(
            "--start, --include and --exclude require --stdout; otherwise set BINLOGSYNC_START, BINLOGSYNC_INCLUDE and "
            "BINLOGSYNC_EXCLUDE"
        )


def _add_consume(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument(
        "--from",
        dest="begin",
        type=_begin,
        default="first",
        metavar="WHERE",
        help="first (the default), new, or a sequence number of the stream",
    )
    parser.add_argument("--limit", type=count, metavar="N", help="stop after N changes")
    parser.add_argument("--format", choices=("json",), default="json", help="format of a line; json: the envelope")


def _begin(text: str) -> str | int:
    return text if text in ("first", "new") else count(text)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", metavar="DB.TABLE", nargs="+", help="for example shop.orders")
    parser.add_argument(
        "--client-id", metavar="NAME", default="dagster", help="client id of the mirror; default: dagster"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        default=120.0,
        help="seconds to wait for the mirror to reach the position; default: 120",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="read the rows that differ again, replace them in the mirror, and compare again",
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    action = actions.add_parser(
        "show", help="print every setting with its effective value and where it was set; secrets are hidden"
    )
    action.add_argument("--json", action="store_true", help="print a JSON list, with the description of each setting")
    action = actions.add_parser(
        "import", help="convert the JSON configuration of the Go tool to a .env file, and print what became of each key"
    )
    action.add_argument("file", type=Path, help="the JSON file; - reads stdin")
    action.add_argument(
        "--output", type=Path, metavar="FILE", default=Path(".env"), help="the file to write; default: .env"
    )


DOCTOR = Command(
    "doctor",
    "check MySQL, NATS, position store and files; print fixes",
    "Check everything that a tail requires, and print a fix for each problem. Changes nothing.",
    "binlogsync doctor",
    exit_codes="1 when a check fails with an error; warnings do not count",
)
TAIL = Command(
    "tail",
    "tail the binlog into the stream without Dagster, or to stdout",
    "Tail the binlog into the stream (and the audit log) until Ctrl-C, as the Dagster job does.",
    "binlogsync tail --stdout --start now --include 'shop.*'",
    _add_tail,
)
CONSUME = Command(
    "consume",
    "print the changes of a table from the stream",
    "Print the changes of a table from the stream, one JSON envelope per line, until Ctrl-C.",
    "binlogsync consume shop.orders --limit 10",
    _add_consume,
)
VERIFY = Command(
    "verify",
    "compare mirrors with their tables, row by row",
    "Compare mirrors in the warehouse with their tables, row by row, at one binlog position, while both are "
    "written to.",
    "binlogsync verify shop.orders shop.items",
    _add_verify,
    exit_codes="1 when a mirror differs from its table, with --repair after the repair; 3 when none differs, but one "
    "could not be compared",
)
CONFIG = Command(
    "config",
    "show the effective settings; convert the configuration of the Go tool",
    "Show the effective settings, or convert the configuration of the Go tool. A setting is a BINLOGSYNC_* variable of "
    "the environment or of the file .env, or a key of binlogsync.toml, both in the current folder; the first wins.",
    "binlogsync config show",
    _add_config,
    exit_codes="1 when a setting is wrong",
)
