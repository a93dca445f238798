"""The command line: every command with its arguments and its help.

The code of a command is in the module of the same name beside this package, imported when the command runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from binlogsync.cli.arguments import backfills, consumers, shell, snapshots, tailing
from binlogsync.cli.arguments.command import Command, CommandGroup, common

GROUPS = (
    CommandGroup("Set up", (tailing.DOCTOR, tailing.CONFIG, shell.COMPILE, shell.COMPLETION)),
    CommandGroup(
        "Read a source or a stream",
        (tailing.TAIL, tailing.CONSUME, consumers.MIRROR, consumers.MODELS, consumers.TABLES),
    ),
    CommandGroup(
        "Check and repair consumers",
        (tailing.VERIFY, consumers.GAPS, consumers.SKIP, consumers.ACCEPT, backfills.REWIND, consumers.REMOVE),
    ),
    CommandGroup("Deliver the past again", (backfills.REPLAY, snapshots.SNAPSHOT, backfills.BOOKMARKS)),
)
EXIT_CODES = {
    0: "success, also when the reader of the output closes it",
    1: "error (one message on stderr), or the command found a problem",
    2: "wrong command line",
    3: "verify: a table could not be compared",
    130: "a second Ctrl-C ended the command before it could finish cleanly",
}
_SETTINGS = (
    "Settings: BINLOGSYNC_* environment variables, else .env, else binlogsync.toml in the current folder;\n"
    "binlogsync config show lists them."
)


class _MainParser(argparse.ArgumentParser):
    """The parser of `binlogsync` itself; its help lists the commands by purpose."""

    def format_help(self) -> str:
        lines = [self.format_usage().rstrip(), "", f"{self.description}"]
        for group in GROUPS:
            lines += ["", f"{group.purpose}, for example: {group.commands[0].example}"]
            lines += [f"  {command.name:<12}{command.help}" for command in group.commands]
        lines += ["", "Exit codes"] + [f"  {code:<12}{meaning}" for code, meaning in EXIT_CODES.items()]
        lines += ["", "binlogsync COMMAND --help shows options and an example; binlogsync --version the version."]
        return "\n".join([*lines, _SETTINGS, ""])


class _PrintVersion(argparse.Action):
    """Prints the installed version, which is looked up only on request."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"binlogsync {version('binlogsync')}\n")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _MainParser(prog="binlogsync", description="MySQL's binary log to NATS JetStream and DuckDB.")
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for command in (command for group in GROUPS for command in group.commands):
        _add_command(commands, command)
    return parser


def _add_command(commands: Any, command: Command) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        command.name,
        parents=[common()] if command.needs_settings else [],
        help=command.help,
        description=command.description,
        epilog=_SETTINGS if command.needs_settings else None,
    )
    parser.set_defaults(needs_settings=command.needs_settings)
    command.add_arguments(parser)
    # A group without arguments is a titled paragraph.
    parser.add_argument_group("example", command.example)
    if command.exit_codes:
        parser.add_argument_group("exit codes", command.exit_codes)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line (None: that of the process); exits with code 2 when it is wrong."""
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    if parsed.command == tailing.TAIL.name:
        tailing.check_tail(parser, parsed)
    if parsed.command == snapshots.SNAPSHOT.name:
        snapshots.check_snapshot(parser, parsed)
    return parsed
