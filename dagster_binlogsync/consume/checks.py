"""The checks that consumer runs report: `handled`, `backlog` and `no_gap`, and `fresh` of mirrors."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from binlogsync.consume.gaps import ConsumerGap
from binlogsync.consume.progress import TableProgress
from binlogsync.errors import BinlogSyncError
from binlogsync.escaping import markdown
from binlogsync.targets import Holder
from binlogsync.targets.progress import ProgressKey
from dagster_binlogsync.consume.spec import ConsumerSpec

if TYPE_CHECKING:
    from binlogsync.nats.reader import StreamReader

CHECKS = (
    ("handled", "No change is blocked by a failing handler or a model that does not match the table."),
    (
        "backlog",
        "At most 1,000 messages are waiting in the stream after the run, and none for another process that has the "
        "warehouse open.",
    ),
    ("no_gap", "No open gap: neither the stream nor the binlog dropped changes before they were consumed."),
)
"""Name and description of each check."""
SMALL_BACKLOG = 1000
MAX_AGE_S = 300.0
MIRROR_ADVICE = (
    "Each run tries to read the table again, which closes the gap. So do binlogsync verify and the check "
    "equals_source if they find the mirror equal to its table."
)
HANDLER_ADVICE = (
    "Replay the missing changes (a backfill), then acknowledge the gap: the job acknowledge_gap_<source>, or "
    "binlogsync gaps."
)


def handled_check(key: dg.AssetKey, error: BinlogSyncError | None) -> dg.AssetCheckResult:
    """Fails if an error blocks the table."""
    description = "No change is blocked." if error is None else f"Blocked: {markdown(str(error))}"
    return dg.AssetCheckResult(passed=error is None, check_name="handled", asset_key=key, description=description)


def held_check(key: dg.AssetKey, waiting: int, holder: Holder, path: str) -> dg.AssetCheckResult:
    """The check `backlog` while messages wait for another process that has the warehouse open: a warning."""
    description = (
        f"{waiting} message(s) are waiting: {holder.process} has had {path} open for {holder.held_s:.0f} s. They are "
        "applied when it is closed; no change is lost."
    )
    return dg.AssetCheckResult(
        passed=False,
        check_name="backlog",
        asset_key=key,
        severity=dg.AssetCheckSeverity.WARN,
        description=markdown(description),
        metadata={"waiting": waiting, "held_by": holder.process},
    )


def backlog_check(key: dg.AssetKey, waiting: int) -> dg.AssetCheckResult:
    """Warns if many messages are waiting."""
    return dg.AssetCheckResult(
        passed=waiting <= SMALL_BACKLOG,
        check_name="backlog",
        asset_key=key,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{waiting} message(s) are waiting in the stream.",
        metadata={"waiting": waiting},
    )


def no_gap(key: dg.AssetKey, opened: Sequence[ConsumerGap]) -> dg.AssetCheckResult:
    """Fails in every run until the gaps of the consumer are closed (binlogsync/consume/gaps.py)."""
    if not opened:
        return dg.AssetCheckResult(passed=True, check_name="no_gap", asset_key=key, description="No open gap.")
    advice = MIRROR_ADVICE if any(gap.is_mirror for gap in opened) else HANDLER_ADVICE
    return dg.AssetCheckResult(
        passed=False,
        check_name="no_gap",
        asset_key=key,
        description=f"Changes may be missing: {markdown(str(opened[-1]))}. {advice}",
        metadata={"gaps": len(opened), "kinds": ", ".join(sorted({gap.kind for gap in opened}))},
    )


def oldest_unconsumed_s(reader: "StreamReader", key: ProgressKey, sequence: int) -> float | None:
    """Seconds since the commit of the first change after the stream sequence. None if there is no such change."""
    waiting = reader.changes_from(key.database, key.table, sequence + 1)
    if not waiting:
        return None
    committed: datetime = waiting[0].batch.data.column("ts_us")[0].as_py()
    return (datetime.now(UTC) - committed).total_seconds()


def check_freshness(waited_s: float | None) -> dg.AssetCheckResult:
    """Passes if no change has waited longer than MAX_AGE_S."""
    if waited_s is None:
        return dg.AssetCheckResult(
            passed=True, description="No change is waiting in the stream.", metadata={"waited_s": 0.0}
        )
    return dg.AssetCheckResult(
        passed=waited_s <= MAX_AGE_S,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"A change was committed {waited_s:.0f} s ago and is not in the mirror yet.",
        metadata={"waited_s": round(waited_s, 1)},
    )


def find_freshness(resources: Any, consumer: ConsumerSpec, reader: "StreamReader", waiting: int) -> dg.AssetCheckResult:
    """The check `fresh` of a mirror, which belongs to another step, in a run with `waiting` messages left."""
    waited_s = None
    if waiting:
        progress = TableProgress(resources.warehouse.report_file()).load(consumer.progress_key)
        waited_s = oldest_unconsumed_s(reader, consumer.progress_key, progress.sequence)
    return check_freshness(waited_s)._replace(asset_key=consumer.asset_key, check_name="fresh")


def report_check(instance: dg.DagsterInstance, result: dg.AssetCheckResult) -> None:
    """Report the result now: before the run of the asset ends, or from a run of another job."""
    instance.report_runless_asset_event(build_evaluation(result))


def build_evaluation(result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """The result as an event. Logged in a run, Dagster counts it for all later materializations of that run."""
    assert result.asset_key is not None
    assert result.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=bool(result.passed),
        metadata=result.metadata or {},
        severity=result.severity,
        description=result.description,
    )
