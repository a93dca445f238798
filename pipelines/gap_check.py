"""The check `no_gap`: failed while changes may be missing, over runs, until the gap is resolved (consume/gaps.py)."""

from collections.abc import Sequence

import dagster as dg

from binlogsync.consume.gaps import ConsumerGap
from binlogsync.escaping import markdown

CHECK = "no_gap"
MIRROR_ADVICE = (
    "Each run reads the table again until that succeeds; binlogsync verify and the check equals_source close it too "
    "where they find both equal."
)
HANDLER_ADVICE = (
    "Make good what is missing (a backfill), then acknowledge it: the job acknowledge_gap, or binlogsync gaps."
)


def no_gap(key: dg.AssetKey, opened: Sequence[ConsumerGap]) -> dg.AssetCheckResult:
    """Failed while a gap is open."""
    if not opened:
        said = "Nothing is known to be missing."
        return dg.AssetCheckResult(passed=True, check_name=CHECK, asset_key=key, description=said)
    advice = MIRROR_ADVICE if any(gap.is_mirror for gap in opened) else HANDLER_ADVICE
    return dg.AssetCheckResult(
        passed=False,
        check_name=CHECK,
        asset_key=key,
        description=f"Changes may be missing: {markdown(str(opened[-1]))}. {advice}",
        metadata={"gaps": len(opened), "kinds": ", ".join(sorted({gap.kind for gap in opened}))},
    )


def report_check(instance: dg.DagsterInstance, result: dg.AssetCheckResult) -> None:
    """Put the result on the check's page, from a run that is not one of the asset, or before that ends."""
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
