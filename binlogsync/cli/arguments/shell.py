"""The arguments of `binlogsync completion`."""

from __future__ import annotations

import argparse

from binlogsync.cli.arguments.command import Command

SHELLS = ("bash", "zsh", "fish")


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")


COMPLETION = Command(
    "completion",
    "print the completion script of a shell",
    "Print a script that completes commands, options and file names. bash: load it in ~/.bashrc, as in the example. "
    "zsh: write it to a file _binlogsync in a folder of $fpath. fish: write it to "
    "~/.config/fish/completions/binlogsync.fish.",
    'eval "$(binlogsync completion bash)"',
    _add_completion,
    needs_settings=False,
)
