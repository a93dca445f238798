"""Options of a continuous pool (continuous.py)."""

from __future__ import annotations

from dataclasses import dataclass

from binlogsync.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousOptions:
    """Options of a continuous pool.

    Attributes:
        max_workers: largest number of threads, each of which handles one table or one transaction of mirrors.
        gather_s: how long changes are collected for a transaction of mirrors; handlers do not wait.
        first_wait_s, longest_wait_s: first and longest wait before a failed table is retried; the wait doubles.
        reload_s: seconds between two looks whether another process has moved the progress of a table (a rewind).
    """

    max_workers: int = 32
    gather_s: float = 0.3
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    reload_s: float = 45.0

    def __post_init__(self) -> None:
        if self.max_workers < 1 or self.gather_s < 0:
            raise ConfigError(
                f"max_workers must be at least 1 and gather_s at least 0; got {self.max_workers} and {self.gather_s}"
            )
