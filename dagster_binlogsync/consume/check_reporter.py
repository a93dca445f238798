"""Reports the checks of tables during a run, which may last for hours before it yields them.

Without these reports, a healthy table would show checks that never ran. A report is one table per step, because it
opens the warehouse; only results that changed are reported again. Errors are logged, and the run continues. While
another process has the warehouse open, the tables whose messages wait for it show that process.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from binlogsync.errors import BinlogSyncError, TargetBusyError
from binlogsync.nats.reader import StreamReader
from binlogsync.targets import Holder
from binlogsync.waiting import Interval
from dagster_binlogsync.consume.checks import (
    SMALL_BACKLOG,
    backlog_check,
    build_evaluation,
    find_freshness,
    handled_check,
    held_check,
    report_check,
)

if TYPE_CHECKING:  # which reports its checks by this module
    from dagster_binlogsync.consume.run import ConsumerRun, TableState

logger = logging.getLogger(__name__)

EVERY_S = 10.0
LATER_S = 60.0
"""Seconds between two rounds, until each table was reported, and afterwards."""
NATS_TIMEOUT_S = 5.0
HELD_S = 5.0
"""How long another process has the warehouse open before it is reported."""


class CheckReporter:
    """The reports of the tables of one run."""

    def __init__(self, run: "ConsumerRun") -> None:
        self._run = run
        self._round_due = Interval(EVERY_S, is_due_at_once=False)
        self._is_behind: dict[dg.AssetKey, bool] = {}
        self._holder: Holder | None = None
        self._held: set[dg.AssetKey] = set()
        self._logged: set[dg.AssetCheckKey] = set()
        self._steps: Iterator[None] | None = None

    def step(self) -> None:
        """Report the next table. A round of all tables begins every few seconds, after the end of the last one."""
        holder = self._run.resources.warehouse.find_holder(HELD_S)
        if (holder is None) is not (self._holder is None):
            self._steps, self._round_due = None, Interval(EVERY_S)
        self._holder = holder
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
        except TargetBusyError as error:
            logger.debug("checks are reported later: %s", error)
            self._steps = None
        except BinlogSyncError as error:
            logger.warning("checks could not be reported: %s", error)
            self._steps = None
        except Exception:  # noqa: BLE001 - the consumers continue after any error of Dagster's storage
            logger.warning("checks could not be reported", exc_info=True)
            self._steps = None

    def _report_all(self) -> Iterator[None]:
        run = self._run
        with run.resources.jetstream.reader(run.source, patience_s=NATS_TIMEOUT_S) as reader:
            pending = reader.pending_counts()
            if self._holder is not None:
                yield from self._report_held(self._holder, pending)
                return
            self._held.clear()
            unloaded = run.find_unloaded()
            for table in list(run.tables.values()):
                if table.error is None and table.consumer.progress_key not in unloaded:
                    self._report(table, reader, pending)
                    yield

    def _report_held(self, holder: Holder, pending: Mapping[str, int]) -> Iterator[None]:
        """Report the tables with messages, without opening the warehouse."""
        for table in list(self._run.tables.values()):
            key, left = table.consumer.asset_key, pending.get(table.consumer.durable, 0)
            if left and table.error is None and key not in self._held:
                result = held_check(key, left, holder, self._run.resources.warehouse.path)
                report_check(self._run.context.instance, result)
                self._logged.add(dg.AssetCheckKey(key, "backlog"))
                self._held.add(key)
                self._is_behind.pop(key, None)  # it is reported as soon as the warehouse is free
                yield

    def _log(self, result: dg.AssetCheckResult) -> None:
        """Log the first result in the run: the asset graph counts only checks of the run that materializes, or later.

        A changed result is reported without the run, so that it is newer than the results of all other runs.
        """
        evaluation = build_evaluation(result)
        if evaluation.asset_check_key in self._logged:
            report_check(self._run.context.instance, result)
            return
        context: Any = self._run.context  # log_event takes evaluations too, which its annotation omits
        context.log_event(evaluation)
        self._logged.add(evaluation.asset_check_key)

    def _report(self, table: "TableState", reader: StreamReader, pending: Mapping[str, int]) -> None:
        key, left = table.consumer.asset_key, pending.get(table.consumer.durable, 0)
        before, is_behind = self._is_behind.get(key), left > SMALL_BACKLOG
        if before is is_behind:
            return
        results = [backlog_check(key, left)]
        if before is None:
            results += [handled_check(key, None), self._run.check_gaps(table)]
        if table.target.repairs_gaps:
            results.append(find_freshness(self._run.resources, table.consumer, reader, left))
        for result in results:
            self._log(result)
        self._is_behind[key] = is_behind  # only now: after an error, the next round reports the table again
