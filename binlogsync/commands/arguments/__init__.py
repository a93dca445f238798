"""The words of the command line: every command, what it takes, and what it says of itself.

What a command does is in the module of its name beside this package, which is imported when the command runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from binlogsync.commands.arguments import backfills, consumers, tailing
from binlogsync.commands.arguments.command import common

_EPILOG = "Settings: BINLOGSYNC_* environment variables, and a .env file in the current folder; see .env.example."
_COMMANDS = (
    *(tailing.DOCTOR, tailing.TAIL, tailing.CONSUME, tailing.VERIFY),
    *(consumers.MODELS, consumers.SKIP, consumers.GAPS),
    *(backfills.BOOKMARKS, backfills.REPLAY, backfills.REWIND),
    tailing.CONFIG,
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line (None: that of the process); ends the program with exit code 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="binlogsync", description="MySQL's binary log to NATS JetStream and DuckDB.", epilog=_EPILOG
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_arguments(
            commands.add_parser(
                command.name,
                parents=[common()],
                help=command.help,
                description=command.description,
                epilog=_EPILOG,
            )
        )
    parsed = parser.parse_args(arguments)
    if parsed.command == tailing.TAIL.name:
        tailing.check_tail(parser, parsed)
    return parsed
