"""Replays in Dagster: for backfills one asset per table, partitioned by bookmarks; for any range one job per source.

Partition K is the range of changes from bookmark K to the next bookmark; a backfill of several partitions is one run.
The changes are delivered to a target, while the live consumer and its progress are not affected. A stopped run resumes
when it is re-executed in the UI.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from binlogsync.consume.targets import Target
from binlogsync.errors import BinlogSyncError, ConfigError
from binlogsync.filters import TableFilter
from binlogsync.replay.factory import TARGETS, SourceTable, TargetLocations, make_plan, make_target, open_sources
from binlogsync.replay.origin import Origin
from binlogsync.replay.partitions import partition_ranges
from binlogsync.replay.ranges import ReplayRange
from binlogsync.replay.run import ReplayResult, ReplayTask, replay_ranges
from binlogsync.replay.sources import ChangeSources
from dagster_binlogsync.keys import TableName, safe_part
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.partitions import bookmark_partitions
from dagster_binlogsync.replay.reporter import ReplayReporter, build_failure, replay_metadata
from dagster_binlogsync.stop_flag import stop_on_signals
from dagster_binlogsync.tables import TableAsset
from dagster_binlogsync.tail.job import TailConfig

ORIGINS: Mapping[str, Origin] = {"auto": "auto", "stream": "stream", "binlog": "binlog"}
RESOURCES = ("positions", "jetstream", "warehouse")


class ReplayConfig(dg.Config):
    """Range, origin and target of the replay of the selected partitions."""

    until: str = Field(
        default="next",
        description="Where the range of the last selected bookmark ends. next: at the next bookmark. head: at the "
        "current end of the binlog.",
    )
    to: str = Field(
        default="",
        description=f"{TARGETS}. Default for a mirror: table (replay_<database>.<table> in the warehouse, recreated; "
        "the mirror itself does not change). Default for other consumers: handler (called again for each change).",
    )
    origin: str = Field(default="auto", description="Where to read the changes: auto, stream or binlog.")
    report_s: float = Field(default=10.0, gt=0, description="Seconds between two observations of the progress.")


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """A source, as replay, bookmark and rewind jobs need it.

    Attributes:
        name: name of the source.
        mysql_key: resource key of its MySQLSource.
        tables: its consumers.
        options: options of its tail, which select the captured tables.
    """

    name: str
    mysql_key: str
    tables: Sequence[TableAsset]
    options: TailConfig

    def find(self, text: str) -> tuple[TableName, TableAsset | None]:
        """Parse "database.table" and find its consumer, if there is one. Raises ConfigError."""
        name = TableName.parse(text, self.name)
        return name, next((table for table in self.tables if str(table.name) == str(name)), None)

    @contextmanager
    def sources(self, resources: Any, name: TableName) -> Iterator[ChangeSources]:
        """Open everything that may contain past changes of the table: stream, binlogs and bookmarks."""
        asked = SourceTable(self.name, name.database, name.table)
        captured = TableFilter(tuple(self.options.include), tuple(self.options.exclude))
        config = getattr(resources, self.mysql_key).config(self.name)
        with (
            resources.positions.store() as store,
            open_sources(asked, config, resources.jetstream.options(), store, captured) as sources,
        ):
            yield sources


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Options of one replay."""

    name: TableName
    table: TableAsset | None
    words: str
    to: str
    origin: str
    report_s: float = 10.0

    @property
    def target(self) -> str:
        """Target of the changes, in the form that make_target parses."""
        if self.to.strip():
            return self.to.strip()
        return "handler" if self.table is not None and not self.table.is_mirror else "table"


def build_replay_asset(source: ReplaySource, table: TableAsset) -> dg.AssetsDefinition:
    """The asset `replay/<source>/<database>/<table>`."""
    name = table.name
    spec = dg.AssetSpec(
        replay_key(name),
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
        required_resource_keys={source.mysql_key, *RESOURCES},
    )
    def _replay(context: dg.AssetExecutionContext, config: ReplayConfig) -> Iterator[dg.MaterializeResult[Any]]:
        keys = sorted(context.partition_keys)
        words = f"bookmarks {', '.join(keys)} until {config.until}"
        replay = ReplayRequest(name, table, words, config.to, config.origin, config.report_s)
        done = run_replay(context, source, replay, lambda sources: partition_ranges(sources, keys, config.until))
        for each in done.ranges:
            if each.range.label in keys:
                context.add_asset_metadata(replay_metadata(done, each), replay_key(name), each.range.label)
        yield dg.MaterializeResult(asset_key=replay_key(name), metadata=replay_metadata(done))

    return _replay


def replay_key(name: TableName) -> dg.AssetKey:
    """Asset key of the replay of the table."""
    return dg.AssetKey(["replay", *name.parts])


def build_replay_job(source: ReplaySource) -> dg.JobDefinition:
    """The job `replay_<source>` for the Launchpad: any table, any range, any target."""

    @dg.op(
        name=f"replay_{safe_part(source.name)}_range",
        required_resource_keys={source.mysql_key, *RESOURCES},
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
        asked = context.op_config
        name, table = source.find(asked["table"])
        words = f"{asked['from']} .. {asked['until']}"
        replay = ReplayRequest(name, table, words, asked["to"], asked["origin"])
        done = run_replay(
            context, source, replay, lambda sources: [sources.resolve_range(asked["from"], asked["until"], words)]
        )
        context.log_event(dg.AssetObservation(replay_key(name), metadata=replay_metadata(done)))
        return dg.Output(None, metadata=replay_metadata(done))

    return build_job(
        _replay,
        f"replay_{safe_part(source.name)}",
        f"Replays a range of changes of one table of {source.name} to a target. Set table and from.",
    )


def run_replay(context: Any, source: ReplaySource, replay: ReplayRequest, spans: Any) -> ReplayResult:
    """Run the replay, with observations of its progress.

    Raises dg.Failure after an error, DagsterExecutionInterruptedError after a stop. Both runs can be re-executed.
    """
    resources = context.resources
    name = replay.name
    asked = SourceTable(name.source, name.database, name.table)
    locations = TargetLocations(
        Path(resources.warehouse.path), resources.jetstream.options(), lambda: _handler(resources, source, replay)
    )
    try:
        if replay.origin not in ORIGINS:
            raise ConfigError(f"unknown origin {replay.origin!r}; use one of {', '.join(ORIGINS)}")
        with (
            stop_on_signals() as stop,
            source.sources(resources, name) as sources,
            closing(make_target(replay.target, asked, locations)) as target,
        ):
            found: Sequence[ReplayRange] = spans(sources)
            plan = make_plan(asked, replay.words, found)
            context.log.info(f"{name}: {len(plan.ranges)} range(s) into {target.name}")
            reporter = ReplayReporter(context, replay_key(name), stop, replay.report_s)
            done = replay_ranges(ReplayTask(sources, plan, target, ORIGINS[replay.origin]), stop, reporter)
    except BinlogSyncError as error:
        raise build_failure(error, name) from None
    if not done.is_finished:
        message = f"stopped ({stop.reason}); re-execute this run to resume it"
        context.log.info(message)
        raise dg.DagsterExecutionInterruptedError(message)
    return done


def _handler(resources: Any, source: ReplaySource, replay: ReplayRequest) -> Target:
    if replay.table is None:
        raise ConfigError(f"{replay.name} has no consumer, hence no handler; choose another target")
    if replay.table.is_mirror:
        raise ConfigError(
            f"the consumer of {replay.name} is a mirror, and a replay would write older rows into it; choose the "
            "target table, or rebuild the mirror: rewind its consumer with rebuild"
        )
    mysql = getattr(resources, source.mysql_key).config(source.name)
    return replay.table.consumer.target(resources.warehouse.path, mysql)
