"""Reports the checks of tables while a run goes on, which may last for hours before it yields them.

Without these reports, a healthy table would show checks that never ran. A report is one table per step, because it
opens the warehouse; only results that changed are reported again. Errors are logged, and the run continues.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from binlogsync.errors import BinlogSyncError
from binlogsync.nats.reader import StreamReader
from binlogsync.waiting import Interval
from dagster_binlogsync.consume.checks import (
    SMALL_BACKLOG,
    backlog_check,
    handled_check,
    report_check,
    report_freshness,
)

if TYPE_CHECKING:  # which reports its checks by this module
    from dagster_binlogsync.consume.run import ConsumerRun, TableState

logger = logging.getLogger(__name__)

EVERY_S = 10.0
LATER_S = 60.0
"""Seconds between two rounds, until each table was reported, and afterwards."""
NATS_TIMEOUT_S = 5.0


class CheckReporter:
    """The reports of the tables of one run."""

    def __init__(self, run: "ConsumerRun") -> None:
        self._run = run
        self._round_due = Interval(EVERY_S, is_due_at_once=False)
        self._is_behind: dict[dg.AssetKey, bool] = {}
        self._steps: Iterator[None] | None = None

    def step(self) -> None:
        """Report the next table. A round of all tables begins every few seconds, after the end of the last one."""
        if self._steps is None and self._round_due.is_due():
            self._steps = self._report_all()
        if self._steps is None:
            return
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
            if len(self._is_behind) == len(self._run.tables):
                self._round_due = Interval(LATER_S, is_due_at_once=False)
        except BinlogSyncError as error:
            logger.warning("checks could not be reported: %s", error)
            self._steps = None
        except Exception:  # noqa: BLE001 - the consumers continue after any error of Dagster's storage
            logger.warning("checks could not be reported", exc_info=True)
            self._steps = None

    def _report_all(self) -> Iterator[None]:
        run = self._run
        with run.resources.jetstream.reader(run.source, patience_s=NATS_TIMEOUT_S) as reader:
            pending, unloaded = reader.pending_counts(), run.find_unloaded()
            for table in list(run.tables.values()):
                if table.error is None and table.consumer.progress_key not in unloaded:
                    self._report(table, reader, pending)
                    yield

    def _report(self, table: "TableState", reader: StreamReader, pending: Mapping[str, int]) -> None:
        key, left = table.consumer.asset_key, pending.get(table.consumer.durable, 0)
        before, is_behind = self._is_behind.get(key), left > SMALL_BACKLOG
        if before is is_behind:
            return
        results = [backlog_check(key, left)]
        if before is None:
            results += [handled_check(key, None), self._run.check_gaps(table)]
        for result in results:
            report_check(self._run.context.instance, result)
        if table.target.repairs_gaps:
            report_freshness(self._run.context.instance, self._run.resources, table.consumer, reader, left)
        self._is_behind[key] = is_behind  # only now: after an error, the next round reports the table again
