"""The command line: `binlogsync doctor`, `tail`, `consume`, and the commands of cli_backfill.py and cli_consumers.py,
with the settings of BINLOGSYNC_* and `.env`.

Exit code 0 when all went well, also when the reader of the output went away; 1 for an error, a message on stderr and no
traceback; 2 for a wrong command line; 130 for a second Ctrl-C. No password is ever shown.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from binlogsync import cli_backfill, cli_consumers
from binlogsync.errors import BinlogSyncError

_EPILOG = "Settings: BINLOGSYNC_* environment variables, and a .env file in the current folder; see .env.example."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (None: that of the process) and give the exit code."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.command == "tail":
        _check_tail(parser, parsed)
    _log_to_stderr(parsed.verbose)
    try:
        command = importlib.import_module(f"binlogsync.commands.{parsed.command}")
        settings = importlib.import_module("binlogsync.settings")
        code: int = command.run(settings.Settings.read(), parsed)
        sys.stdout.flush()
    except BinlogSyncError as error:
        sys.stderr.write(f"binlogsync: {error}\n")
        return 1
    except BrokenPipeError:
        code = 0
    except KeyboardInterrupt:
        return 130
    _end_stdout()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="binlogsync", description="MySQL's binary log to NATS JetStream and DuckDB.", epilog=_EPILOG
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--source", metavar="NAME", help="one of BINLOGSYNC_SOURCE; by default the first")
    common.add_argument("-v", "--verbose", action="store_true", help="log to stderr what is done")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "doctor",
        parents=[common],
        help="check MySQL, NATS, position store and files, with the fix for what is wrong",
        description="Check everything that a tail needs; changes nothing. Exit code 1 when something is an error.",
        epilog=_EPILOG,
    )
    _add_tail(commands.add_parser(
        "tail",
        parents=[common],
        help="tail the binlog into the stream, without Dagster; or onto stdout",
        description="Tail the binlog into the stream (and the audit log) until Ctrl-C, as the Dagster job does.",
        epilog=_EPILOG,
    ))  # fmt: skip
    _add_consume(commands.add_parser(
        "consume",
        parents=[common],
        help="print the changes of a table from the stream",
        description="Print the changes of a table from the stream, a JSON envelope a line, until Ctrl-C.",
        epilog=_EPILOG,
    ))  # fmt: skip
    _add_verify(commands.add_parser(
        "verify",
        parents=[common],
        help="compare mirrors with their tables, row by row",
        description="Compare mirrors in the warehouse with their tables, row by row, at one place in the binlog, while "
        "both are written to. Exit code 1 when one differs.",
        epilog=_EPILOG,
    ))  # fmt: skip
    cli_consumers.add_parsers(commands, common, _EPILOG)
    cli_backfill.add_parsers(commands, common, _EPILOG)
    _add_config(commands.add_parser(
        "config",
        parents=[common],
        help="read the configuration of the Go tool",
        description="Write the .env that says what the JSON configuration of the Go tool says.",
        epilog=_EPILOG,
    ))  # fmt: skip
    return parser


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


def _check_tail(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """The options of the two kinds of tail do not mix."""
    if parsed.stdout and parsed.accept_gap:
        parser.error("--accept-gap: tail --stdout stores nothing, so it has no position that could be gone")
    if parsed.stdout and parsed.take_over:
        parser.error("--take-over: tail --stdout stores nothing, so there is nothing to take over")
    if not parsed.stdout and (parsed.start or parsed.include or parsed.exclude):
        parser.error(
            "--start, --include and --exclude go with --stdout; a tail that stores has BINLOGSYNC_START and so on"
        )


def _add_consume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="DB.TABLE", help="for instance shop.orders")
    parser.add_argument(
        "--from",
        dest="begin",
        type=_begin,
        default="first",
        metavar="WHERE",
        help="first (default), new, or a sequence of the stream",
    )
    parser.add_argument("--limit", type=_count, metavar="N", help="end after so many changes")
    parser.add_argument("--format", choices=("json",), default="json", help="of a line: the envelope")


def _begin(text: str) -> str | int:
    return text if text in ("first", "new") else _count(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _log_to_stderr(verbose: bool) -> None:
    """Warnings of all; what is done only of this package, since others may log what connects them."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    if verbose:
        logging.getLogger("binlogsync").setLevel(logging.INFO)


def _end_stdout() -> None:
    """Flush; a reader that went away is no reason for noise when the interpreter ends."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
