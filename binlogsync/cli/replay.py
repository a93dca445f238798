"""`binlogsync replay`: delivers a range of a table's past to a target, with a progress bar.

Ctrl-C stops it; the same command resumes after the last change that was stored.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from contextlib import closing

from binlogsync.cli.output import write_message
from binlogsync.cli.progress_store import NATS_TIMEOUT_S
from binlogsync.cli.project_consumers import find_consumer
from binlogsync.cli.table_argument import read_table
from binlogsync.consume.targets import Target
from binlogsync.filters import TableFilter
from binlogsync.progress_bar import ProgressBar
from binlogsync.replay.factory import SourceTable, TargetLocations, make_plan, make_target, open_sources
from binlogsync.replay.run import ReplayResult, ReplayTask, replay_ranges
from binlogsync.settings import Settings
from binlogsync.signals import stop_on_signals
from binlogsync.targets import TableStore
from binlogsync.targets.factory import open_store
from binlogsync.text_format import format_counts, format_rate


def run(settings: Settings, arguments: Namespace) -> int:
    """Replay until the end of the range or Ctrl-C; 1 when it was stopped. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    table = SourceTable(source, *read_table(settings, source, arguments.table))
    tail = settings.tail(table.source)
    locations = TargetLocations(_warehouse(settings), settings.jetstream(), _handler_target(settings, table))
    with (
        stop_on_signals() as stop,
        closing(settings.positions()) as store,
        closing(make_target(arguments.to, table, locations)) as target,
        open_sources(
            table,
            settings.mysql(table.source),
            settings.nats(NATS_TIMEOUT_S),
            store,
            TableFilter(tail.include, tail.exclude),
        ) as sources,
    ):
        range_text = f"{arguments.begin} .. {arguments.until}"
        plan = make_plan(table, range_text, [sources.resolve_range(arguments.begin, arguments.until, range_text)])
        write_message(f"{arguments.table}: {plan.ranges[0].start} to {plan.ranges[0].until}, into {target.name}")
        bar = ProgressBar(f"{arguments.table}:")
        task = ReplayTask(sources, plan, target, arguments.origin, arguments.batch)
        done = replay_ranges(task, stop, lambda progress: bar.update(progress.share, str(progress)))
        bar.done(_describe_result(done))
    return 0 if done.is_finished else 1


def _describe_result(done: ReplayResult) -> str:
    if not done.is_finished:
        return "stopped; run the same command again to resume"
    origins = ", ".join(dict.fromkeys(each.origin for each in done.ranges))
    before = f", {done.before:,} of them by an earlier run" if done.before else ""
    resumed = f"; resumed a run that had not finished, up to its end at {done.plan.ranges[-1].until}"
    return (
        f"{done.changes:,} changes ({format_counts(done.counts)}) from the {origins}{before}, {format_rate(done.rate)}"
        f"{resumed if done.is_resumed else ''}"
    )


def _warehouse(settings: Settings) -> TableStore:
    return open_store(settings.warehouse_path(), storage_version=settings.values.warehouse.storage_version)


def _handler_target(settings: Settings, table: SourceTable) -> Callable[[], Target]:
    def make() -> Target:
        consumer = find_consumer(settings.consumers(), table).consumer
        return consumer.target(_warehouse(settings), settings.mysql(table.source))

    return make
