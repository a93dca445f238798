"""The arguments of `binlogsync completion` and `binlogsync compile`."""

from __future__ import annotations

import argparse

from binlogsync.cli.arguments.command import Command

SHELLS = ("bash", "zsh", "fish")


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")


COMPILE = Command(
    "compile",
    "compile the kernels, so that the first run starts at once",
    "Compile the kernels that decode the binlog and the stream, and store them in numba's cache: in NUMBA_CACHE_DIR, "
    "else in the __pycache__ folders of the package, else in a folder of the user. Kernels that are there already are "
    "only loaded. Prints the folders. Run it as the user of the tail, for example when an image is built.",
    "binlogsync compile",
    exit_codes="0: all kernels are in the cache. 1: there is no writable folder for the cache.",
)
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
