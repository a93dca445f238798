"""`binlogsync replay`: delivers a range of a table's past to a target, with a progress bar.

Ctrl-C stops it; the same command resumes after the last change that was stored.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing

from binlogsync.cli.output import write_message
from binlogsync.cli.progress_store import NATS_TIMEOUT_S
from binlogsync.cli.project_consumers import find_consumer
from binlogsync.cli.tables import read_table
from binlogsync.consume.targets import Target
from binlogsync.filters import TableFilter
from binlogsync.replay.factory import SourceTable, TargetLocations, make_plan, make_target, open_sources
from binlogsync.replay.run import ReplayProgress, ReplayResult, ReplayTask, replay_ranges
from binlogsync.settings import Settings
from binlogsync.signals import stop_on_signals
from binlogsync.text_format import format_counts, format_rate

_BAR_WIDTH = 30


def run(settings: Settings, arguments: Namespace) -> int:
    """Replay until the end of the range or Ctrl-C; 1 when it was stopped. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    table = SourceTable(source, *read_table(settings, source, arguments.table))
    tail = settings.tail(table.source)
    locations = TargetLocations(settings.warehouse_path(), settings.jetstream(), _handler_target(settings, table))
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
        done = replay_ranges(
            ReplayTask(sources, plan, target, arguments.origin, arguments.batch), stop, ProgressBar(sys.stderr.isatty())
        )
        _report_result(done, arguments.table)
    return 0 if done.is_finished else 1


class ProgressBar:
    """Shows progress: a bar on a terminal, otherwise a line per tenth."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._shown = -1

    def __call__(self, progress: ReplayProgress) -> None:
        """Show the progress."""
        full = round(progress.share * _BAR_WIDTH)
        if self._is_terminal:
            end = "\n" if progress.share >= 1 else ""
            sys.stderr.write(f"\r[{'#' * full}{'.' * (_BAR_WIDTH - full)}] {progress}\x1b[K{end}")
            sys.stderr.flush()
        elif full // 3 != self._shown:
            self._shown = full // 3
            write_message(str(progress))


def _report_result(done: ReplayResult, table: str) -> None:
    origins = ", ".join(dict.fromkeys(each.origin for each in done.ranges))
    before = f", {done.before:,} of them by an earlier run" if done.before else ""
    if done.is_resumed:
        write_message(f"{table}: resumed a run that had not finished, up to its end at {done.plan.ranges[-1].until}")
    if done.is_finished:
        counts, rate = format_counts(done.counts), format_rate(done.rate)
        write_message(f"{table}: {done.changes:,} changes ({counts}) from the {origins}{before}, {rate}")
    else:
        write_message(f"{table}: stopped; run the same command again to resume")


def _handler_target(settings: Settings, table: SourceTable) -> Callable[[], Target]:
    def make() -> Target:
        consumer = find_consumer(settings.consumers(), table).consumer
        return consumer.target(str(settings.warehouse_path()), settings.mysql(table.source))

    return make
