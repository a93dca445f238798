"""One line on stderr: how far a download is. Rewritten in place on a terminal, every tenth percent in a log."""

from __future__ import annotations

import sys

_BAR = 30
_STEP_IN_A_LOG = 10.0


class Progress:
    """Shows `label` with a bar; `update` takes percent (0-100), `done` ends the line."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._terminal = sys.stderr.isatty()
        self._next_in_a_log = 0.0

    def update(self, percent: float, what: str = "") -> None:
        """Shows `percent` and what is being done just now."""
        if self._terminal:
            filled = int(_BAR * percent / 100)
            bar = "#" * filled + "." * (_BAR - filled)
            self._write(f"\r\x1b[K{self._label} [{bar}] {percent:3.0f}% {what}"[:150])
        elif percent >= self._next_in_a_log:
            self._next_in_a_log = percent - percent % _STEP_IN_A_LOG + _STEP_IN_A_LOG
            self._write(f"{self._label} {percent:3.0f}% {what}\n")

    def done(self, what: str) -> None:
        """Ends the line with `what`."""
        self._write(f"{chr(13) + chr(27) + '[K' if self._terminal else ''}{self._label} {what}\n")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
