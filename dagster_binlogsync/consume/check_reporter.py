"""Reports the checks of tables in a continuous run, which has no end at which it could yield them.

Without these reports, a healthy table would show checks that never ran. A report is one table per step, because it
opens the warehouse; only results that changed are reported again. Errors are logged, and the run continues.
"""

import logging
from collections.abc import Iterator, Mapping

import dagster as dg

from binlogsync.errors import BinlogSyncError
from binlogsync.nats.reader import StreamReader
from dagster_binlogsync.consume.checks import (
    SMALL_BACKLOG,
    backlog_check,
    handled_check,
    report_check,
    report_freshness,
)
from dagster_binlogsync.consume.run import ConsumerRun, TableState

logger = logging.getLogger(__name__)


class CheckReporter:
    """The reports of the tables of one run."""

    def __init__(self, run: ConsumerRun, reader: StreamReader) -> None:
        self._run, self._reader = run, reader
        self._is_behind: dict[dg.AssetKey, bool] = {}
        self._steps: Iterator[None] | None = None

    def start(self) -> None:
        """Begin a round of all tables, unless one is going on."""
        if self._steps is None:
            self._steps = self._report_all()

    def step(self) -> None:
        """Report the next table of the round, if there is one."""
        if self._steps is None:
            return
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
        except BinlogSyncError as error:
            logger.warning("checks could not be reported: %s", error)
            self._steps = None
        except Exception:  # noqa: BLE001 - the consumers continue after any error of Dagster's storage
            logger.warning("checks could not be reported", exc_info=True)
            self._steps = None

    def _report_all(self) -> Iterator[None]:
        pending = self._reader.pending_counts()
        unloaded = self._run.find_unloaded()
        for table in list(self._run.tables.values()):
            if table.error is None and table.consumer.progress_key not in unloaded:
                self._report(table, pending)
                yield

    def _report(self, table: TableState, pending: Mapping[str, int]) -> None:
        key, left = table.consumer.asset_key, pending.get(table.consumer.durable, 0)
        before, self._is_behind[key] = self._is_behind.get(key), left > SMALL_BACKLOG
        if before is self._is_behind[key]:
            return
        results = [backlog_check(key, left)]
        if before is None:
            results += [handled_check(key, None), self._run.check_gaps(table)]
        for result in results:
            report_check(self._run.context.instance, result)
        if table.target.repairs_gaps:
            report_freshness(self._run.context.instance, self._run.resources, table.consumer, self._reader, left)
