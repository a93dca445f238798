"""The arguments of `binlogsync models`, `skip` and `gaps`."""

from __future__ import annotations

import argparse
from pathlib import Path

from binlogsync.commands.arguments.command import Command, add_table


def _add_models(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument(
        "--kind", choices=("dataclass", "msgspec", "pydantic"), default="dataclass", help="of the model"
    )
    parser.add_argument(
        "--from",
        dest="origin",
        choices=("mysql", "stream"),
        help="who tells the columns; by default MySQL, and the stream where MySQL cannot be reached",
    )


def _add_skip(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument("change_id", metavar="CHANGE", help="id of the change, as the handler's error names it")
    parser.add_argument("--reason", required=True, help="why it may be left out; kept for good")
    parser.add_argument("--by", metavar="NAME", help="who says so; by default this account")
    _add_client(parser, "whose change; by default Dagster's")


def _add_gaps(parser: argparse.ArgumentParser) -> None:
    add_table(parser)
    parser.add_argument(
        "--acknowledge", metavar="REASON", help="accept the open gaps of a handler for this reason, which is recorded"
    )
    parser.add_argument("--by", metavar="NAME", help="who accepts them; by default this account")
    _add_client(parser, "whose gaps; by default Dagster's")


def _add_client(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Whose progress, and where it is."""
    parser.add_argument("--client", default="dagster", metavar="NAME", help=meaning)
    parser.add_argument(
        "--progress",
        type=Path,
        metavar="FILE",
        help="the DuckDB file that holds its progress; by default the warehouse for dagster, NATS for others",
    )


MODELS = Command(
    "models",
    "print a model for a table, as Python",
    "Print a class whose fields are the columns of a table, ready for a handler.",
    _add_models,
)
SKIP = Command(
    "skip",
    "skip the one change that a handler cannot handle",
    "Move a consumer over the change that it stands before, and keep who said so and why.",
    _add_skip,
)
GAPS = Command(
    "gaps",
    "list what a consumer may have missed, or accept it",
    "List the gaps of a consumer: changes that the stream or the binlog dropped before they were consumed, and the "
    "like. Exit code 1 while one is open. A mirror closes its own by reading the table again.",
    _add_gaps,
)
