"""Backfills in Dagster: a replay asset for each table, whose partitions are bookmarks, and an ad hoc job.

Partition K means the changes from bookmark K to the bookmark behind it; several at once are one run. The changes go to
a target beside the live consumer, whose progress does not move. A run that was ended is re-executed in the UI, and goes
on where it stopped.
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
from pipelines.jobs import build_job
from pipelines.keys import TableName, safe_part
from pipelines.replay_reporter import ReplayReporter, build_failure, replay_metadata
from pipelines.stop_flag import stop_on_signals
from pipelines.tables import TableAsset
from pipelines.tail import TailConfig
from sensors.bookmarks import bookmark_partitions

ORIGINS: Mapping[str, Origin] = {"auto": "auto", "stream": "stream", "binlog": "binlog"}
RESOURCES = ("positions", "jetstream", "warehouse")


class ReplayConfig(dg.Config):
    """Where the changes of the chosen bookmarks go."""

    until: str = Field(
        default="next",
        description="next: the last chosen bookmark ends where the one behind it begins. head: it reaches to the end "
        "of MySQL's binlog.",
    )
    to: str = Field(
        default="",
        description=f"{TARGETS}. Empty: table for a mirror (replay_<database>.<table> in the warehouse, made anew; the "
        "mirror is left alone), handler for the others (called once more for each change).",
    )
    origin: str = Field(default="auto", description="auto, stream or binlog: where the changes are read.")
    report_s: float = Field(default=10.0, gt=0, description="Seconds between two observations of the progress.")


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """What a replay has to know of a source in Dagster.

    Attributes:
        name: of the source.
        mysql_key: of its MySQLSource among the resources.
        tables: its consumers.
        options: which tables its tail captures.
    """

    name: str
    mysql_key: str
    tables: Sequence[TableAsset]
    options: TailConfig

    def find(self, text: str) -> tuple[TableName, TableAsset | None]:
        """The table that a person names, and its consumer, if it has one. Raises ConfigError."""
        name = TableName.parse(text, self.name)
        return name, next((table for table in self.tables if str(table.name) == str(name)), None)

    @contextmanager
    def sources(self, resources: Any, name: TableName) -> Iterator[ChangeSources]:
        """Who may hold the table's past."""
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
    """One replay as it was asked for."""

    name: TableName
    table: TableAsset | None
    words: str
    to: str
    origin: str
    report_s: float = 10.0

    @property
    def target(self) -> str:
        """Of the changes, as make_target takes it."""
        if self.to.strip():
            return self.to.strip()
        return "handler" if self.table is not None and not self.table.is_mirror else "table"


def replay_asset(source: ReplaySource, table: TableAsset) -> dg.AssetsDefinition:
    """The asset `replay/<source>/<database>/<table>`."""
    name = table.name
    spec = dg.AssetSpec(
        replay_key(name),
        deps=[name.stream_key],
        group_name="replay",
        kinds={"duckdb" if table.is_mirror else "python"},
        description=f"The past of {name.markdown}, once more: choose bookmarks, and their changes are replayed beside "
        "the live consumer. Materialize, tick bookmarks, launch."
        f"{'' if table.is_mirror else ' The handler is called again.'}",
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
    """Of the table's replay."""
    return dg.AssetKey(["replay", *name.parts])


def replay_job(source: ReplaySource) -> dg.JobDefinition:
    """The job `replay_<source>` for the Launchpad: any table, any two ends, any target."""

    @dg.op(
        name=f"replay_{safe_part(source.name)}_range",
        required_resource_keys={source.mysql_key, *RESOURCES},
        config_schema={
            "table": dg.Field(str, description='"database.table"'),
            "from": dg.Field(
                str,
                description="Where the range begins: a bookmark, oldest, a time (2026-01-31T12:00:00Z), a GTID set, "
                "binlog.000042:1187, or seq:12345 for a message of the stream.",
            ),
            "until": dg.Field(str, default_value="head", description="Where it ends, written the same way; or head."),
            "to": dg.Field(str, default_value="", description=ReplayConfig.model_fields["to"].description),
            "origin": dg.Field(str, default_value="auto", description="auto, stream or binlog."),
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
        f"Backfills a range of one table of {source.name}, exactly, into a target. Fill in table and from.",
    )


def run_replay(context: Any, source: ReplaySource, replay: ReplayRequest, spans: Any) -> ReplayResult:
    """Do it, with observations of its progress.

    Raises dg.Failure for an error, DagsterExecutionInterruptedError when it was stopped; both can be re-executed.
    """
    resources = context.resources
    name = replay.name
    asked = SourceTable(name.source, name.database, name.table)
    locations = TargetLocations(
        Path(resources.warehouse.path), resources.jetstream.options(), lambda: _handler(resources, source, replay)
    )
    try:
        if replay.origin not in ORIGINS:
            raise ConfigError(f"origin {replay.origin!r} is none of {', '.join(ORIGINS)}")
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
        said = f"stopped ({stop.reason}); re-execute this run, and it goes on where it ended"
        context.log.info(said)
        raise dg.DagsterExecutionInterruptedError(said)
    return done


def _handler(resources: Any, source: ReplaySource, replay: ReplayRequest) -> Target:
    if replay.table is None:
        raise ConfigError(f"{replay.name} has no consumer in pipelines/consumers, so no handler; choose another target")
    if replay.table.is_mirror:
        raise ConfigError(
            f"the consumer of {replay.name} keeps a mirror, which a replay would fill with older rows; choose the "
            "target table, or have the mirror made anew by rewinding its consumer with rebuild"
        )
    mysql = getattr(resources, source.mysql_key).config(source.name)
    return replay.table.consumption.target(resources.warehouse.path, mysql)
