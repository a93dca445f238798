"""The entry point of `binlogsync`: parses the command line and runs a command (`cli/`) with the settings.

Settings (`binlogsync/settings`) are read before the command is imported. Exit codes are in `cli/arguments`
(`EXIT_CODES`): an error is one message on stderr without a traceback. No output contains a password.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from binlogsync.cli.arguments import parse
from binlogsync.collection import without_collection
from binlogsync.errors import BinlogSyncError

if TYPE_CHECKING:
    import argparse


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
    module = f"binlogsync.cli.{parsed.command}"
    if not parsed.needs_settings:
        return int(importlib.import_module(module).run(parsed))
    _log_to_stderr(parsed.verbose)
    with without_collection():
        settings = importlib.import_module("binlogsync.settings").Settings.read()
        if parsed.command == "tail":
            _keep_pandas_out()
        if settings.values.kernels == "public":
            # The kernels are compiled when the command imports them, as the environment selects.
            os.environ["BINLOGSYNC_KERNELS"] = "public"
        command = importlib.import_module(module)
        gc.freeze()  # what imports made stays for good, so later collections skip it
    return int(command.run(settings, parsed))


class _PandasBlocker:
    """A finder of modules that reports pandas as not installed."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        """Raise for pandas; leave every other module to the next finder."""
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}")


def _keep_pandas_out() -> None:
    """Prevent pyarrow from importing pandas for its first array: a tail does not use it, and it takes 30 MB."""
    blocker = _PandasBlocker()
    sys.meta_path.insert(0, blocker)
    try:
        importlib.import_module("pyarrow").array([0])
    finally:
        sys.meta_path.remove(blocker)


def _log_to_stderr(verbose: bool) -> None:
    """Log warnings of all libraries; INFO of this package only, since others may log connection settings."""
    import logging

    from binlogsync.cli.printable_formatter import PrintableFormatter

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
