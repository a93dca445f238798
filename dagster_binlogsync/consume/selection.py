"""Checks of the tables that a run consumes, before it begins."""

from collections.abc import Collection, Iterable, Sequence

import dagster as dg

from dagster_binlogsync.consume.spec import ConsumerSpec


def check_groups(selected: Sequence[ConsumerSpec], consumers: Iterable[ConsumerSpec]) -> None:
    """Raise dg.Failure if a group of mirrors is selected only in part."""
    groups = {one.together for one in selected if one.together is not None}
    missing = [str(one.name) for one in consumers if one.together in groups and one not in selected]
    if missing:
        raise dg.Failure(
            description=f"Mirrors of the group {', '.join(sorted(map(str, groups)))} must be consumed together: also "
            f"select {', '.join(missing)}, or run the job of all tables.",
            allow_retries=False,
        )


def warn_uncaptured(
    context: dg.AssetExecutionContext, selected: Sequence[ConsumerSpec], uncaptured: Collection[dg.AssetKey]
) -> None:
    """Log a warning for each selected mirror of `uncaptured`."""
    for name in (item.name for item in selected if item.asset_key in uncaptured):
        context.log.warning(
            f"{name} is not captured by the tail of {name.source}, so its mirror will not change after it is loaded; "
            "capture the table (BINLOGSYNC_INCLUDE and BINLOGSYNC_EXCLUDE, or `capture` and `exclude` of the "
            "component), or remove the mirror"
        )
