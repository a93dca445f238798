"""The command line: reads it, runs the command (`commands/`) with the settings of BINLOGSYNC_* and `.env`, and ends.

Exit code 0 when all went well, also when the reader of the output went away; 1 for an error, a message on stderr and no
traceback; 2 for a wrong command line; 130 for a second Ctrl-C. No password is ever shown.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

from binlogsync.commands.arguments import parse
from binlogsync.errors import BinlogSyncError
from binlogsync.escaping import PrintableFormatter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (None: that of the process) and give the exit code."""
    parsed = parse(arguments)
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


def _log_to_stderr(verbose: bool) -> None:
    """Warnings of all; what is done only of this package, since others may log what connects them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
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
