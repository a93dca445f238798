"""The progress of a download, on stderr: one line that is overwritten on a terminal, a line per 10 % in a log."""

from __future__ import annotations

import sys

_BAR_WIDTH = 30
_LOG_STEP_PERCENT = 10.0


class DownloadProgress:
    """Shows `label` with a bar; `update` takes percent (0-100), `done` ends the line."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._terminal = sys.stderr.isatty()
        self._next_log_percent = 0.0

    def update(self, percent: float, what: str = "") -> None:
        """Show `percent` and the current step."""
        if self._terminal:
            filled = int(_BAR_WIDTH * percent / 100)
            bar = "#" * filled + "." * (_BAR_WIDTH - filled)
            self._write(f"\r\x1b[K{self._label} [{bar}] {percent:3.0f}% {what}"[:150])
        elif percent >= self._next_log_percent:
            self._next_log_percent = percent - percent % _LOG_STEP_PERCENT + _LOG_STEP_PERCENT
            self._write(f"{self._label} {percent:3.0f}% {what}\n")

    def done(self, what: str) -> None:
        """End the line with `what`."""
        self._write(f"{chr(13) + chr(27) + '[K' if self._terminal else ''}{self._label} {what}\n")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
