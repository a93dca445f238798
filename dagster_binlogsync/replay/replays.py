"""Replays in Dagster: for backfills one asset per table, partitioned by bookmarks; for any range one job per source.

Partition K is the range of changes from bookmark K to the next bookmark; a backfill of several partitions is one run.
The changes are delivered to a target, while the live consumer and its progress are not affected. A stopped run resumes
when it is re-executed in the UI.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from binlogsync.replay.target_forms import TARGET_FORMS
from dagster_binlogsync.keys import safe_part
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.partitions import bookmark_partitions
from dagster_binlogsync.replay.reporter import replay_metadata
from dagster_binlogsync.replay.source import RESOURCES, ReplaySource
from dagster_binlogsync.table_asset import TableAsset


class ReplayConfig(dg.Config):
    """Range, origin and target of the replay of the selected partitions."""

    until: str = Field(
        default="next",
        description="Where the range of the last selected bookmark ends. next: at the next bookmark. head: at the "
        "current end of the binlog.",
    )
    to: str = Field(
        default="",
        description=f"{TARGET_FORMS}. Default for a mirror: table (replay_<database>.<table> in the warehouse, "
        "recreated; the mirror itself does not change). Default for other consumers: handler (called again for each "
        "change).",
    )
    origin: str = Field(default="auto", description="Where to read the changes: auto, stream or binlog.")
    report_s: float = Field(default=10.0, gt=0, description="Seconds between two observations of the progress.")


def build_replay_asset(source: ReplaySource, table: TableAsset) -> dg.AssetsDefinition:
    """The asset `replay/<source>/<database>/<table>`."""
    name = table.name
    spec = dg.AssetSpec(
        name.replay_key,
        deps=[name.stream_key],
        group_name="replay",
        kinds={"duckdb" if table.is_mirror else "python"},
        description=f"Replays past changes of {name.markdown}. To start: Materialize, select bookmarks, launch. The "
        "live consumer is not affected."
        f"{'' if table.is_mirror else ' By default the handler is called again for each change.'}",
        metadata={"mysql/database": name.database, "mysql/table": name.table, "binlogsync/source": name.source},
    )

    @dg.multi_asset(
        name=f"replay__{name.joined}",
        specs=[spec],
        partitions_def=bookmark_partitions(name.source),
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys=source.keys.require(RESOURCES),
    )
    def _replay(context: dg.AssetExecutionContext, config: ReplayConfig) -> Iterator[dg.MaterializeResult[Any]]:
        from binlogsync.replay.partitions import partition_ranges
        from dagster_binlogsync.replay.run import ReplayRequest, run_replay

        keys = sorted(context.partition_keys)
        description = f"bookmarks {', '.join(keys)} until {config.until}"
        replay = ReplayRequest(name, table, description, config.to, config.origin, config.report_s)
        done = run_replay(context, source, replay, lambda sources: partition_ranges(sources, keys, config.until))
        for each in done.ranges:
            if each.range.label in keys:
                context.add_asset_metadata(replay_metadata(done, each), name.replay_key, each.range.label)
        yield dg.MaterializeResult(asset_key=name.replay_key, metadata=replay_metadata(done))

    return _replay


def build_replay_job(source: ReplaySource) -> dg.JobDefinition:
    """The job `replay_<source>` for the Launchpad: any table, any range, any target."""

    @dg.op(
        name=f"replay_{safe_part(source.name)}_range",
        required_resource_keys=source.keys.require(RESOURCES),
        config_schema={
            "table": dg.Field(str, description='"database.table"'),
            "from": dg.Field(
                str,
                description="Start of the range: a bookmark, oldest, a time (2026-01-31T12:00:00Z), a GTID set, "
                "binlog.000042:1187, or seq:12345 for a message of the stream.",
            ),
            "until": dg.Field(str, default_value="head", description="End of the range, in the same form, or head."),
            "to": dg.Field(str, default_value="", description=ReplayConfig.model_fields["to"].description),
            "origin": dg.Field(
                str, default_value="auto", description="Where to read the changes: auto, stream or binlog."
            ),
        },
    )
    def _replay(context: dg.OpExecutionContext) -> dg.Output[None]:
        from dagster_binlogsync.replay.run import ReplayRequest, run_replay

        config = context.op_config
        name, table = source.find(config["table"])
        description = f"{config['from']} .. {config['until']}"
        replay = ReplayRequest(name, table, description, config["to"], config["origin"])
        done = run_replay(
            context,
            source,
            replay,
            lambda sources: [sources.resolve_range(config["from"], config["until"], description)],
        )
        context.log_event(dg.AssetObservation(name.replay_key, metadata=replay_metadata(done)))
        return dg.Output(None, metadata=replay_metadata(done))

    return build_job(
        _replay,
        f"replay_{safe_part(source.name)}",
        f"Replays a range of changes of one table of {source.name} to a target. Set table and from.",
    )
