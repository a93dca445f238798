"""The format of the command line's log. A separate module, because `binlogsync --help` does not import `logging`."""

from __future__ import annotations

import logging

from binlogsync.escaping import printable


class PrintableFormatter(logging.Formatter):
    """Log lines without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with its traceback if it has one."""
        return printable(super().format(record))
