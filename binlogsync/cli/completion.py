"""`binlogsync completion`: the completion script of a shell, generated from the command line's own parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab

from binlogsync.cli.arguments import build_parser

_COMPLETE = "complete"
"""The attribute of an argparse action that shtab reads."""


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    sys.stdout.write(f"{completion_script(arguments.shell)}\n")
    return 0


def completion_script(shell: str) -> str:
    """The script for "bash", "zsh" or "fish"."""
    parser = build_parser()
    for action in _actions(parser):
        if action.type is Path:
            setattr(action, _COMPLETE, shtab.FILE)
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of the parser and of its commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to list them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for nested in action.choices.values():
                yield from _actions(nested)
