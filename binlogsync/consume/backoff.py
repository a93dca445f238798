"""Exponential backoff between retries."""

from __future__ import annotations


def backoff_s(first_s: float, longest_s: float, failures: int) -> float:
    """Seconds to wait after so many failures in a row: `first_s`, doubled each time, up to `longest_s`."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
