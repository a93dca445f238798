"""A progress bar on stderr: one line that is overwritten on a terminal, a line per tenth in a log."""

from __future__ import annotations

import sys

from binlogsync.escaping import printable

_WIDTH = 30
_LONGEST_LINE = 150
_CLEAR = "\r\x1b[K"


class ProgressBar:
    """Shows `label` with a bar and a text; `done` ends it."""

    def __init__(self, label: str) -> None:
        self._label = printable(label)
        self._is_terminal = sys.stderr.isatty()
        self._logged_tenths = -1

    def update(self, share: float, text: str) -> None:
        """Show which share, 0 to 1, is done."""
        if self._is_terminal:
            bar = "#" * int(_WIDTH * share)
            _write(_CLEAR + f"{self._label} [{bar:.<{_WIDTH}}] {printable(text)}"[:_LONGEST_LINE])
        elif int(10 * share) > self._logged_tenths:
            self._logged_tenths = int(10 * share)
            _write(f"{self._label} {printable(text)}\n")

    def done(self, text: str) -> None:
        """Replace the bar by the text."""
        _write(f"{_CLEAR if self._is_terminal else ''}{self._label} {printable(text)}\n")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
