"""Runs one replay of a table in a Dagster run: opens where changes are read and where they go, and reports progress."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import dagster as dg

from binlogsync.consume.targets import Target
from binlogsync.errors import BinlogSyncError, ConfigError
from binlogsync.replay.factory import SourceTable, TargetLocations, make_plan, make_target
from binlogsync.replay.origin import Origin
from binlogsync.replay.ranges import ReplayRange
from binlogsync.replay.run import ReplayResult, ReplayTask, replay_ranges
from binlogsync.replay.sources import ChangeSources
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.replay.reporter import ReplayReporter, build_replay_failure
from dagster_binlogsync.replay.source import ReplaySource
from dagster_binlogsync.resource_keys import SourceResources
from dagster_binlogsync.stop_flag import stop_on_signals
from dagster_binlogsync.table_asset import TableAsset

ORIGINS: Mapping[str, Origin] = {"auto": "auto", "stream": "stream", "binlog": "binlog"}


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Options of one replay.

    Attributes:
        name: the replayed table.
        table: its asset; None if it has no consumer.
        description: the requested ranges. A run with the same table, description and target resumes an unfinished
            replay.
        to: where the changes go, as `make_target` parses it; "" selects the default.
        origin: where they are read, one of ORIGINS.
        report_s: number of seconds between two observations of the progress.
    """

    name: TableName
    table: TableAsset | None
    description: str
    to: str
    origin: str
    report_s: float = 10.0

    @property
    def target(self) -> str:
        """`to`, or the default: the handler of the table if it has one, else a DuckDB table."""
        if self.to.strip():
            return self.to.strip()
        return "handler" if self.table is not None and not self.table.is_mirror else "table"


def run_replay(
    context: Any,
    source: ReplaySource,
    replay: ReplayRequest,
    find_ranges: Callable[[ChangeSources], Sequence[ReplayRange]],
) -> ReplayResult:
    """Replay the ranges that `find_ranges` returns, and log the progress as observations of the asset.

    `context` is the context of an asset or op. Raises dg.Failure after an error, DagsterExecutionInterruptedError after
    a stop; a re-execution of the run resumes the replay in both cases.
    """
    resources = source.keys.find(context)
    name = replay.name
    table = SourceTable(name.source, name.database, name.table)
    locations = TargetLocations(
        resources.warehouse.file(), resources.jetstream.options(), lambda: _handler(resources, source, replay)
    )
    try:
        if replay.origin not in ORIGINS:
            raise ConfigError(f"unknown origin {replay.origin!r}; use one of {', '.join(ORIGINS)}")
        with (
            stop_on_signals() as stop,
            source.sources(resources, name) as sources,
            closing(make_target(replay.target, table, locations)) as target,
        ):
            plan = make_plan(table, replay.description, find_ranges(sources))
            context.log.info(f"{name}: {len(plan.ranges)} range(s) into {target.name}")
            reporter = ReplayReporter(context, name.replay_key, stop, replay.report_s)
            done = replay_ranges(ReplayTask(sources, plan, target, ORIGINS[replay.origin]), stop, reporter)
    except BinlogSyncError as error:
        raise build_replay_failure(error, name) from None
    if not done.is_finished:
        message = f"stopped ({stop.reason}); re-execute this run to resume it"
        context.log.info(message)
        raise dg.DagsterExecutionInterruptedError(message)
    return done


def _handler(resources: SourceResources, source: ReplaySource, replay: ReplayRequest) -> Target:
    if replay.table is None:
        raise ConfigError(f"{replay.name} has no consumer, hence no handler; choose another target")
    if replay.table.is_mirror:
        raise ConfigError(
            f"the consumer of {replay.name} is a mirror, and a replay would write older rows into it; choose the "
            "target table, or rebuild the mirror: rewind its consumer with rebuild"
        )
    mysql = resources.mysql.config(source.name)
    return replay.table.consumer.target(resources.warehouse.file(), mysql)
