"""The check `no_gap`: fails in every run until the gaps of the consumer are closed (binlogsync/consume/gaps.py)."""

from collections.abc import Sequence

import dagster as dg

from binlogsync.consume.gaps import ConsumerGap
from binlogsync.escaping import markdown

CHECK = "no_gap"
MIRROR_ADVICE = (
    "Each run tries to read the table again, which closes the gap. So do binlogsync verify and the check "
    "equals_source if they find the mirror equal to its table."
)
HANDLER_ADVICE = (
    "Replay the missing changes (a backfill), then acknowledge the gap: the job acknowledge_gap, or binlogsync gaps."
)


def no_gap(key: dg.AssetKey, opened: Sequence[ConsumerGap]) -> dg.AssetCheckResult:
    """Fails if there are open gaps."""
    if not opened:
        return dg.AssetCheckResult(passed=True, check_name=CHECK, asset_key=key, description="No open gap.")
    advice = MIRROR_ADVICE if any(gap.is_mirror for gap in opened) else HANDLER_ADVICE
    return dg.AssetCheckResult(
        passed=False,
        check_name=CHECK,
        asset_key=key,
        description=f"Changes may be missing: {markdown(str(opened[-1]))}. {advice}",
        metadata={"gaps": len(opened), "kinds": ", ".join(sorted({gap.kind for gap in opened}))},
    )


def report_check(instance: dg.DagsterInstance, result: dg.AssetCheckResult) -> None:
    """Report the result now: before the run of the asset ends, or from a run of another job."""
    assert result.asset_key is not None
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=result.asset_key,
            check_name=result.check_name or CHECK,
            passed=bool(result.passed),
            metadata=result.metadata or {},
            severity=result.severity,
            description=result.description,
        )
    )
