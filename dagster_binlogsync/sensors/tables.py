"""The sensor `tables_<source>`: counts the tables that match patterns of mirrors and await a Reload of the definitions.

It reads only stored lists of tables, and reports a change as an observation of the binlog asset and as its check
`tables_loaded`.
"""

from collections.abc import Sequence

import dagster as dg

from binlogsync.escaping import markdown
from dagster_binlogsync.consume.checks import build_evaluation
from dagster_binlogsync.keys import binlog_key, safe_part
from dagster_binlogsync.mirror_patterns import LoadedTables, MirrorPattern, StoredLists, compare_tables
from dagster_binlogsync.table_asset import TableAsset

CHECK = "tables_loaded"


def build_tables_sensor(
    source: str,
    patterns: Sequence[MirrorPattern],
    tables: Sequence[TableAsset],
    lists: StoredLists,
    *,
    running: bool = False,
    interval_s: int = 30,
) -> dg.SensorDefinition:
    """The sensor `tables_<source>`. `running` is its default status; `lists` is where the list of tables is."""

    @dg.sensor(
        name=f"tables_{safe_part(source)}",
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description=f"Counts the tables of {source} that match a pattern and await a Reload of the definitions.",
    )
    def _count(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        found = compare_tables(lists, source, patterns, tables)
        text = lists.explain_missing() if found is None else str(found)
        if context.cursor == text:
            return dg.SkipReason(text)
        result = tables_loaded(source, found, text)
        evaluation = build_evaluation(result._replace(asset_key=binlog_key(source), check_name=CHECK))
        observation = dg.AssetObservation(binlog_key(source), metadata=dict(result.metadata or {}))
        return dg.SensorResult(skip_reason=text, asset_events=[evaluation, observation], cursor=text)

    return _count


def build_tables_check(
    source: str, patterns: Sequence[MirrorPattern], tables: Sequence[TableAsset], lists: StoredLists
) -> dg.AssetChecksDefinition:
    """The check `tables_loaded` of the binlog asset of the source."""

    @dg.asset_check(
        asset=binlog_key(source),
        name=CHECK,
        description="All tables that match the patterns of mirrors are loaded as assets.",
    )
    def _loaded() -> dg.AssetCheckResult:
        found = compare_tables(lists, source, patterns, tables)
        return tables_loaded(source, found, lists.explain_missing() if found is None else str(found))

    return _loaded


def tables_loaded(source: str, found: LoadedTables | None, text: str) -> dg.AssetCheckResult:
    """Warns if tables await a Reload, or there is no list of tables."""
    return dg.AssetCheckResult(
        passed=found is not None and not found.awaiting,
        check_name=CHECK,
        asset_key=binlog_key(source),
        severity=dg.AssetCheckSeverity.WARN,
        description=markdown(text),
        metadata={"tables_matched": found.matched, "tables_awaiting_reload": len(found.awaiting)} if found else {},
    )
