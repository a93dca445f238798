"""The entry point of `binlogsync`: parses the command line and runs a command (`commands/`) with the settings.

Settings come from BINLOGSYNC_* and `.env`. Exit codes are in `commands/arguments` (`EXIT_CODES`): an error is one
message on stderr without a traceback. No output contains a password.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from binlogsync.commands.arguments import parse
from binlogsync.errors import BinlogSyncError
from binlogsync.escaping import PrintableFormatter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (None: that of the process) and return the exit code."""
    parsed = parse(arguments)
    try:
        code = _run(parsed)
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


def _run(parsed: argparse.Namespace) -> int:
    command = importlib.import_module(f"binlogsync.commands.{parsed.command}")
    if not parsed.needs_settings:
        return int(command.run(parsed))
    _log_to_stderr(parsed.verbose)
    settings = importlib.import_module("binlogsync.settings")
    return int(command.run(settings.Settings.read(), parsed))


def _log_to_stderr(verbose: bool) -> None:
    """Log warnings of all libraries; INFO of this package only, since others may log connection settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if verbose:
        logging.getLogger("binlogsync").setLevel(logging.INFO)


def _end_stdout() -> None:
    """Flush. If the reader has closed the pipe, the interpreter would report that at its exit: prevent it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
