"""Waits before what failed is tried again."""

from __future__ import annotations


def backoff_s(first_s: float, longest_s: float, failures: int) -> float:
    """Seconds to wait after that many failures in a row: the first wait, doubled by each further one, and no longer."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
