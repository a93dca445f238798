"""The checks that consumer runs report: `handled`, `backlog` and `no_gap`."""

from collections.abc import Sequence

import dagster as dg

from binlogsync.consume.gaps import ConsumerGap
from binlogsync.errors import BinlogSyncError
from binlogsync.escaping import markdown

CHECKS = (
    ("handled", "No change is blocked by a failing handler or a model that does not match the table."),
    ("backlog", "At most 1,000 messages are waiting in the stream after the run."),
    ("no_gap", "No open gap: neither the stream nor the binlog dropped changes before they were consumed."),
)
"""Name and description of each check."""
SMALL_BACKLOG = 1000
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


def report_check(instance: dg.DagsterInstance, result: dg.AssetCheckResult) -> None:
    """Report the result now: before the run of the asset ends, or from a run of another job."""
    assert result.asset_key is not None
    assert result.check_name is not None
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=result.asset_key,
            check_name=result.check_name,
            passed=bool(result.passed),
            metadata=result.metadata or {},
            severity=result.severity,
            description=result.description,
        )
    )
