"""One command of the command line, and what several of them take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


def nothing(parser: argparse.ArgumentParser) -> None:
    """For a command without arguments of its own."""


@dataclass(frozen=True, slots=True)
class Command:
    """What `binlogsync NAME --help` says, and the arguments that it takes besides those of all."""

    name: str
    help: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None] = nothing


def common() -> argparse.ArgumentParser:
    """The arguments that every command takes, for `parents`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--source", metavar="NAME", help="one of BINLOGSYNC_SOURCE; by default the first")
    parser.add_argument("-v", "--verbose", action="store_true", help="log to stderr what is done")
    return parser


def add_table(parser: argparse.ArgumentParser) -> None:
    """The table that a command is about."""
    parser.add_argument("table", metavar="DB.TABLE", help="for instance shop.orders")


def count(text: str) -> int:
    """A type of argument: a number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)
