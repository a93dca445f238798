"""The arguments of `binlogsync doctor`, `tail`, `consume`, `verify` and `config`."""

from __future__ import annotations

import argparse

from binlogsync.commands.arguments.command import Command, add_table, count


def _add_tail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--take-over", action="store_true", help="claim the source also from a tail that still seems to live"
    )
    parser.add_argument(
        "--accept-gap",
        metavar="REASON",
        help="where the server no longer has what comes next: give it up for this reason, which is recorded",
    )
    parser.add_argument(
        "--gap-start", metavar="WHERE", default="oldest", help="where to begin behind the gap; by default oldest"
    )
    stdout = parser.add_argument_group("without NATS")
    stdout.add_argument(
        "--stdout", action="store_true", help="print the changes, a JSON envelope a line; nothing is stored"
    )
    stdout.add_argument(
        "--start",
        metavar="WHERE",
        help="now, oldest, binlog.000042:1187, a GTID set or an ISO time; by default BINLOGSYNC_START",
    )
    for name, meaning in (("include", "print"), ("exclude", "leave out")):
        stdout.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="DB.TABLE",
            help=f"tables to {meaning}, * allowed; may be repeated; by default BINLOGSYNC_{name.upper()}",
        )


def check_tail(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """The options of the two kinds of tail do not mix; ends the program with exit code 2 where they do."""
    if parsed.stdout and parsed.accept_gap:
        parser.error("--accept-gap: tail --stdout stores nothing, so it has no position that could be gone")
    if parsed.stdout and parsed.take_over:
        parser.error("--take-over: tail --stdout stores nothing, so there is nothing to take over")
    if not parsed.stdout and (parsed.start or parsed.include or parsed.exclude):
        parser.error(
            "--start, --include and --exclude go with --stdout; a tail that stores has BINLOGSYNC_START and so on"
        )


def _add_consume(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument(
        "--from",
        dest="begin",
        type=_begin,
        default="first",
        metavar="WHERE",
        help="first (default), new, or a sequence of the stream",
    )
    parser.add_argument("--limit", type=count, metavar="N", help="end after so many changes")
    parser.add_argument("--format", choices=("json",), default="json", help="of a line: the envelope")


def _begin(text: str) -> str | int:
    return text if text in ("first", "new") else count(text)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", metavar="DB.TABLE", nargs="+", help="for instance shop.orders")
    parser.add_argument("--client-id", metavar="NAME", default="dagster", help="of the mirror; by default dagster")
    parser.add_argument(
        "--timeout", type=float, metavar="S", default=120.0, help="how long the mirror may take to get there (120)"
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="import")
    action = actions.add_parser("import", help="each key is mapped, or told why not; no secret is shown")
    action.add_argument("file", help="the JSON file; - reads stdin")
    action.add_argument("--output", metavar="FILE", default=".env", help="what to write; by default .env")


DOCTOR = Command(
    "doctor",
    "check MySQL, NATS, position store and files, with the fix for what is wrong",
    "Check everything that a tail needs; changes nothing. Exit code 1 when something is an error.",
)
TAIL = Command(
    "tail",
    "tail the binlog into the stream, without Dagster; or onto stdout",
    "Tail the binlog into the stream (and the audit log) until Ctrl-C, as the Dagster job does.",
    _add_tail,
)
CONSUME = Command(
    "consume",
    "print the changes of a table from the stream",
    "Print the changes of a table from the stream, a JSON envelope a line, until Ctrl-C.",
    _add_consume,
)
VERIFY = Command(
    "verify",
    "compare mirrors with their tables, row by row",
    "Compare mirrors in the warehouse with their tables, row by row, at one place in the binlog, while both are "
    "written to. Exit code 1 when one differs, else 3 when one could not be compared.",
    _add_verify,
)
CONFIG = Command(
    "config",
    "read the configuration of the Go tool",
    "Write the .env that says what the JSON configuration of the Go tool says.",
    _add_config,
)
