"""Options of the tail and of loads in the YAML of the component."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import dagster as dg

from binlogsync.start_notation import parse_start
from dagster_binlogsync.tail.job import TailConfig

if TYPE_CHECKING:
    from binlogsync.snapshot.throttle import LoadLimits


@dataclass(kw_only=True)
class TailSettings(dg.Resolvable):
    """Defaults of the options of the tail: those of BINLOGSYNC_START, _FLUSH and so on (docs/settings.md).

    The Launchpad shows and overrides them.
    """

    start: str | None = None
    snapshot: Literal["never", "when_needed", "initial"] | None = None
    snapshot_keyless_rows: int | None = None
    flush: Literal["interval", "eager"] | None = None
    flush_interval_s: float | None = None
    flush_rows: int | None = None
    shift_s: float | None = None
    report_s: float | None = None
    bookmark_minutes: float | None = None
    bookmark_keep: int | None = None
    bookmark_keep_days: float | None = None

    def build(self, include: Sequence[str], exclude: Sequence[str], table_lists: str) -> TailConfig:
        """The options of the tail of these tables. Raises ConfigError for a `start` that is no position."""
        if self.start is not None:
            parse_start(self.start)
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return TailConfig(include=list(include), exclude=list(exclude), table_lists=table_lists, **given)


@dataclass(kw_only=True)
class LoadOptions(dg.Resolvable):
    """Limits of loads of mirrors: those of BINLOGSYNC_LOAD_... (docs/settings.md); 0 is no limit."""

    rows_per_second: float = 0.0
    threads_running: int = 100
    replica_lag_s: float = 0.0
    group_tables: int = 4

    def limits(self) -> "LoadLimits":
        """The limits as the library takes them."""
        from binlogsync.snapshot.throttle import LoadLimits

        return LoadLimits(
            rows_per_s=self.rows_per_second or None,
            threads_running=self.threads_running or None,
            replica_lag_s=self.replica_lag_s or None,
            group_tables=self.group_tables,
        )
