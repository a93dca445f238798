"""The definition of one command, and the arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: for a command that only takes the shared arguments."""


class Command(NamedTuple):
    """One command: its help, and the arguments that it takes besides the shared ones.

    Attributes:
        name: the word on the command line.
        help: one line in `binlogsync --help`.
        description: the first paragraph of `binlogsync NAME --help`.
        example: a complete command line.
        exit_codes: codes that mean something else, or something more exact, than in `binlogsync --help`; "" for none.
        needs_settings: False for a command that reads no settings; it does not take the shared arguments.
    """

    name: str
    help: str
    description: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None] = no_arguments
    exit_codes: str = ""
    needs_settings: bool = True


class CommandGroup(NamedTuple):
    """Commands with one purpose; `binlogsync --help` shows the example of the first one."""

    purpose: str
    commands: tuple[Command, ...]


def common() -> argparse.ArgumentParser:
    """The arguments that every command takes, for `parents`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--source", metavar="NAME", help="one of BINLOGSYNC_SOURCE; default: the first")
    parser.add_argument("-v", "--verbose", action="store_true", help="log progress to stderr")
    return parser


def add_table(parser: argparse.ArgumentParser) -> None:
    """The table that a command is about."""
    parser.add_argument("table", metavar="DB.TABLE", help="for example shop.orders")


def add_client(parser: argparse.ArgumentParser, meaning: str) -> None:
    """The consumer's client id, and where its progress is stored."""
    parser.add_argument("--client", default="dagster", metavar="NAME", help=meaning)
    parser.add_argument(
        "--progress",
        type=Path,
        metavar="FILE",
        help="the DuckDB file with its progress; default: the warehouse for the client dagster, NATS for others",
    )


def count(text: str) -> int:
    """Parse an argument that is a number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)
