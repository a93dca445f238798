"""How often a failing handler is called again."""

from __future__ import annotations

from dataclasses import dataclass

from binlogsync.errors import ConfigError
from binlogsync.waiting import backoff_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a handler is called for a failing change, and the waits between, which double up to the longest."""

    tries: int = 5
    first_wait_s: float = 0.2
    longest_wait_s: float = 10.0

    def __post_init__(self) -> None:
        if self.tries < 1 or self.first_wait_s < 0 or self.longest_wait_s < 0:
            raise ConfigError(f"tries must be at least 1, and waits must not be negative; got {self}")

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        return backoff_s(self.first_wait_s, self.longest_wait_s, failures)
