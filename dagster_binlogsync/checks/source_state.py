"""Evaluates the checks `positions_kept` and `server_unchanged` of a binlog.

Each reads at most the headers of a few binlog files.
"""

import time

import dagster as dg

from binlogsync.escaping import markdown
from binlogsync.mysql import MySQLConfig, inspect_server
from binlogsync.mysql.preflight import preflight
from binlogsync.mysql.retention import BinlogRetention, clock_ahead_s
from binlogsync.retention_report import (
    CLOCK_S,
    RetentionStatus,
    check_retention,
    describe_retention,
    required_by_bookmarks,
    required_by_tail,
)
from binlogsync.server_facts import ServerFacts
from binlogsync.stores import PositionStore


def positions_kept(mysql: MySQLConfig, store: PositionStore, source: str) -> dg.AssetCheckResult:
    """Hours until MySQL may purge the oldest required position."""
    info = inspect_server(mysql)
    retention = BinlogRetention(mysql, info)
    needs = [*required_by_tail([store.checkpoints.load(source)]), *required_by_bookmarks(store.bookmarks.load(source))]
    found = check_retention(retention, info, needs)
    is_lost = any(each.retained is None and each.position.is_essential for each in found)
    summary = "; ".join(str(each) for each in found if each.is_short) or _describe_first(found)
    return dg.AssetCheckResult(
        passed=not any(each.is_short for each in found),
        severity=dg.AssetCheckSeverity.ERROR if is_lost else dg.AssetCheckSeverity.WARN,
        description=f"{markdown(summary)}. {describe_retention(retention).capitalize()}.",
        metadata={
            **({"hours_left": found[0].hours} if found and found[0].hours is not None else {}),
            "positions": len(found),
            "oldest_binlog": info.files[0].name if info.files else "none",
        },
    )


def _describe_first(found: list[RetentionStatus]) -> str:
    return str(found[0]) if found else "No position is required yet"


def server_unchanged(mysql: MySQLConfig, store: PositionStore, source: str) -> dg.AssetCheckResult:
    """Fails for settings changed since the last start of the tail, duplicate server ids, and clocks that disagree."""
    now = ServerFacts.of(inspect_server(mysql), time.time())
    before = ServerFacts.from_text(store.checkpoints.load_facts(source))
    wrong = now.changes_since(before) if before is not None else []
    wrong += [each.message for each in preflight(mysql) if "server_id" in each.name and not each.ok]
    ahead_s = clock_ahead_s(mysql)
    if abs(ahead_s) > CLOCK_S:
        wrong.append(f"the server's clock differs by {ahead_s:+.1f} s from the clock of this machine")
    state = "has not been tailed yet" if before is None else f"is unchanged since {before.at:%Y-%m-%d %H:%M} UTC"
    return dg.AssetCheckResult(
        passed=not wrong,
        severity=dg.AssetCheckSeverity.WARN,
        description=markdown("; ".join(wrong)) or f"The server {state}.",
        metadata={"server": now.server_uuid, "version": now.version, "clock_ahead_s": round(ahead_s, 3)},
    )
