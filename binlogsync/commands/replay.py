"""`binlogsync replay`: an exact range of a table's past into a target, with a progress bar; Ctrl-C and a second call of
the same words go on where the first stopped.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing

from binlogsync.backfill.opening import Asked, Ways, make_plan, make_target, open_holders
from binlogsync.backfill.run import Backfilled, BackfillProgress, Work, run_backfill
from binlogsync.commands.finding import find_consumer
from binlogsync.commands.output import say
from binlogsync.commands.progress import PATIENCE_S
from binlogsync.commands.tables import read_table
from binlogsync.consume.targets import Target
from binlogsync.filters import TableFilter
from binlogsync.settings import Settings
from binlogsync.signals import stop_on_signals

_BAR = 30


def run(settings: Settings, arguments: Namespace) -> int:
    """Backfill until it is done or Ctrl-C; 1 when it was stopped. Raises BinlogSyncError."""
    source = settings.source(arguments.source)
    asked = Asked(source, *read_table(settings, source, arguments.table))
    tail = settings.tail(asked.source)
    ways = Ways(settings.warehouse_path(), settings.jetstream(), _handler(settings, asked))
    with (
        stop_on_signals() as stop,
        closing(settings.positions()) as store,
        closing(make_target(arguments.to, asked, ways)) as target,
        open_holders(
            asked,
            settings.mysql(asked.source),
            settings.nats(PATIENCE_S),
            store,
            TableFilter(tail.include, tail.exclude),
        ) as holders,
    ):
        words = f"{arguments.begin} .. {arguments.until}"
        plan = make_plan(asked, words, [holders.span(arguments.begin, arguments.until, words)])
        say(f"{arguments.table}: {plan.spans[0].start} to {plan.spans[0].until}, into {target.name}")
        done = run_backfill(
            Work(holders, plan, target, arguments.origin, arguments.batch), stop, Bar(sys.stderr.isatty())
        )
        _say_done(done, arguments.table)
    return 0 if done.is_finished else 1


class Bar:
    """Shows progress: a bar that is drawn over on a terminal, else a line now and then."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._shown = -1

    def __call__(self, progress: BackfillProgress) -> None:
        """Draw."""
        full = round(progress.share * _BAR)
        if self._is_terminal:
            end = "\n" if progress.share >= 1 else ""
            sys.stderr.write(f"\r[{'#' * full}{'.' * (_BAR - full)}] {progress}\x1b[K{end}")
            sys.stderr.flush()
        elif full // 3 != self._shown:
            self._shown = full // 3
            say(str(progress))


def _say_done(done: Backfilled, table: str) -> None:
    counts = ", ".join(f"{count:,} {op}" for op, count in sorted(done.counts.items())) or "none"
    origins = ", ".join(dict.fromkeys(each.origin for each in done.spans))
    before = f", {done.before:,} of them by an earlier try" if done.before else ""
    if done.is_resumed:
        say(f"{table}: went on with a try that was not finished, up to its end at {done.plan.spans[-1].until}")
    if done.is_finished:
        say(f"{table}: {done.changes:,} changes ({counts}) from the {origins}{before}, {done.rate:,.0f}/s")
    else:
        say(f"{table}: stopped; the same command goes on where this one ended")


def _handler(settings: Settings, asked: Asked) -> Callable[[], Target]:
    def make() -> Target:
        consumption = find_consumer(settings.consumers(), asked).consumption
        return consumption.target(str(settings.warehouse_path()), settings.mysql(asked.source))

    return make
