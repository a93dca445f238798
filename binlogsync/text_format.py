"""How times, durations, counts and sizes are written for users: in logs, messages, errors and Dagster's pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime


def time_of_us(microseconds: int) -> datetime:
    """The time so many microseconds after 1970, in UTC."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def format_time(moment: datetime) -> str:
    """Such as "2026-11-23T16:00:00Z"; `moment` has a time zone."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def format_hours(seconds: float) -> str:
    """Such as "36.5 hours"."""
    return f"{seconds / 3600:,.1f} hours"


def format_rate(per_second: float) -> str:
    """Such as "12,345/s"."""
    return f"{per_second:,.0f}/s"


def format_megabytes(size: float) -> str:
    """Such as "1,234.5 MB", of a million bytes each."""
    return f"{size / 1e6:,.1f} MB"


def format_counts(counts: Mapping[str, int]) -> str:
    """Such as "3 delete, 1,000 insert"; "none" without any."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or "none"
