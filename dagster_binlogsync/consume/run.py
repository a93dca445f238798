"""One consumer run of a source: consumes the selected tables concurrently until no more changes arrive.

A table with new changes is materialized after a few seconds, then every `report_s` seconds, and at the end of the run.
If the handler or model of a table fails, the run records an observation with the failing change and retries that table
with backoff; the other tables continue. At the end the run materializes the healthy tables and fails if a table is
still blocked. Dagster itself retries nothing.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg

from binlogsync.bookmarks import Bookmark
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.gaps import open_gaps
from binlogsync.consume.pool import ConsumerTask, TableReport, WorkerPool, WorkerPoolOptions
from binlogsync.consume.progress import ProgressKey, TableProgress
from binlogsync.consume.targets import Target
from binlogsync.errors import BinlogSyncError, HandlerError, TargetBusyError
from binlogsync.mysql.config import MySQLConfig
from binlogsync.nats.reader import StreamReader
from binlogsync.stores import PositionStore
from binlogsync.targets import TableStore
from dagster_binlogsync.consume.check_reporter import CheckReporter
from dagster_binlogsync.consume.checks import (
    backlog_check,
    find_freshness,
    handled_check,
    no_gap,
    report_check,
)
from dagster_binlogsync.consume.config import ConsumeConfig, TableRunConfig
from dagster_binlogsync.consume.execution import ConsumerEvent
from dagster_binlogsync.consume.load_reporter import LoadReporter
from dagster_binlogsync.consume.metadata import (
    ConsumerTotals,
    TablePreview,
    build_metadata,
    build_run_failure,
    column_metadata,
    failure_metadata,
    table_metadata,
)
from dagster_binlogsync.consume.run_coordination import exclude_active_tables, find_stop_reason, wait_for_release
from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.consume.stored_progress import StoredProgress
from dagster_binlogsync.resource_keys import SourceResources
from dagster_binlogsync.run_status import find_run_end
from dagster_binlogsync.stop_flag import StopFlag, stop_on_signals
from dagster_binlogsync.tags import FAILED_TAG

FIRST_REPORT_S = 5.0
POLL_S = 0.25


def consume_tables(
    context: dg.AssetExecutionContext,
    config: ConsumeConfig,
    consumers: Sequence[ConsumerSpec],
    resources: SourceResources,
) -> Iterator[ConsumerEvent]:
    """What `run_consumers` does (execution.py)."""
    free = exclude_active_tables(context, consumers)
    if not free:
        return
    wait_for_release(context, free)
    run = ConsumerRun.start(context, config, free, resources)
    with stop_on_signals() as stop:
        run.consume(stop, idle_s=config.idle_s, max_s=config.max_s)
        if stop.reason is not None:
            message = f"stopped ({stop.reason}) after {run.changes} change(s), all of them stored"
            context.log.info(message)
            if find_run_end(context.instance, context.run.run_id) is not None:
                raise dg.DagsterExecutionInterruptedError(message)
    try:
        yield from run.results()
    except BinlogSyncError as error:
        raise build_run_failure({next(iter(run.tables.values())).consumer.name: (error, 0)}) from None
    states = run.tables.values()
    failed = {state.consumer.name: (state.error, state.tries) for state in states if state.error is not None}
    if failed:
        keys = (state.consumer.asset_key for state in states if state.error is not None)
        tag = " ".join(key.to_user_string() for key in keys)
        context.instance.add_run_tags(context.run.run_id, {FAILED_TAG: tag})
        raise build_run_failure(failed, show_values=resources.warehouse.show_values) from None


@dataclass(slots=True)
class TableState:
    """State of a table in this run: totals of the run, totals since the last report, and the error that blocks it."""

    consumer: ConsumerSpec
    target: Target
    load: LoadReporter
    total: ConsumerTotals = field(default_factory=ConsumerTotals)
    unreported: ConsumerTotals = field(default_factory=ConsumerTotals)
    report_at: float = 0.0
    error: BinlogSyncError | None = None
    tries: int = 0
    has_gap: bool = False

    @classmethod
    def start(cls, consumer: ConsumerSpec, store: TableStore, mysql: MySQLConfig) -> "TableState":
        """The state at the start of the run."""
        return cls(consumer, consumer.target(store, mysql), LoadReporter(consumer.name, consumer.asset_key))


@dataclass(slots=True)
class ConsumerRun:
    """Consumes tables in a run, and reports each of them to its asset."""

    context: dg.AssetExecutionContext | dg.OpExecutionContext
    config: TableRunConfig
    tables: Mapping[tuple[str, str], TableState]
    resources: SourceResources

    @classmethod
    def start(
        cls,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        config: TableRunConfig,
        consumers: Sequence[ConsumerSpec],
        resources: SourceResources,
    ) -> "ConsumerRun":
        """The run at its start, with the targets of the consumers; they are of one source."""
        warehouse, mysql = resources.warehouse, resources.mysql.config(consumers[0].name.source)
        tables = {item.table: TableState.start(item, warehouse.file(), mysql) for item in consumers}
        return cls(context, config, tables, resources)

    @property
    def changes(self) -> int:
        """Changes applied in this run."""
        return sum(table.total.changes for table in self.tables.values())

    def consume(self, stop: StopFlag, *, idle_s: float, max_s: float) -> None:
        """Consume until no change arrived for idle_s, max_s is over, or a stop was requested."""
        config = self.config
        options = WorkerPoolOptions(
            first_round_s=FIRST_REPORT_S, round_s=config.report_s, first_wait_s=config.retry_s,
            longest_wait_s=max(60.0, config.retry_s), max_workers=config.max_workers,
        )  # fmt: skip
        ends_at, poll_at, checks = time.monotonic() + max_s, 0.0, CheckReporter(self)
        with WorkerPool(self.build_tasks(), self.open_reader, options, stop) as pool:
            while (
                not stop.is_set()
                and time.monotonic() < ends_at
                and (self._is_active(pool.quiet_s(), idle_s) or not self.resources.warehouse.can_read())
            ):
                self.process_reports(pool.reports(POLL_S))
                self.report_loads()
                self.materialize_progress()
                checks.step()
                if time.monotonic() > poll_at:
                    poll_at = time.monotonic() + FIRST_REPORT_S
                    if (reason := find_stop_reason(self.context)) is not None:
                        stop.request(reason)
            pool.end()
            self.process_reports(pool.reports(0))
            self.report_loads()

    def _is_active(self, quiet_s: float, idle_s: float) -> bool:
        """Whether a change arrived within idle_s, or a table is loading. A retried load must make progress."""
        return quiet_s <= idle_s or any(
            table.load.is_loading if table.error is None else table.load.has_progress(idle_s)
            for table in self.tables.values()
        )

    def results(self) -> Iterator[ConsumerEvent]:
        """The check results of all tables, and a materialization of each that is neither blocked nor unloaded."""
        if not self.resources.warehouse.can_read():
            yield from self._unread_results()
            return
        unloaded = self.find_unloaded()
        for mirror in unloaded:
            self.context.log.info(f"{mirror.database}.{mirror.table} is not loaded yet; the next run resumes the load")
        with ExitStack() as stack:
            reader: StreamReader | None = None
            for table in self.tables.values():
                key = table.consumer.asset_key
                checks = [handled_check(key, table.error), *self._find_gap(table)]
                if table.error is not None or table.consumer.progress_key in unloaded:
                    yield from checks
                    continue
                reader = reader or stack.enter_context(self.open_reader())
                waiting = reader.pending(table.consumer.durable)
                left = waiting.num_pending + waiting.num_ack_pending if waiting is not None else 0
                checks.append(backlog_check(key, left))
                if table.target.repairs_gaps:
                    with suppress(TargetBusyError):
                        fresh = find_freshness(self.resources, table.consumer, reader, left)
                        report_check(self.context.instance, fresh)
                yield dg.MaterializeResult(
                    asset_key=key, metadata=self._metadata(table, table.total), check_results=checks
                )

    def _unread_results(self) -> Iterator[ConsumerEvent]:
        """The results if another process has the warehouse open: what was applied, and no check that reads."""
        self.context.log.warning(
            f"{self.resources.warehouse.path} is open in another program: the next run reports row counts and checks"
        )
        for table in self.tables.values():
            checks = [handled_check(table.consumer.asset_key, table.error)]
            if table.error is None and table.total.changes:
                shown = self._metadata(table, table.total, can_read=False)
                yield dg.MaterializeResult(asset_key=table.consumer.asset_key, metadata=shown, check_results=checks)
            else:
                yield from checks

    def find_unloaded(self) -> Collection[ProgressKey]:
        """The mirrors whose first load has not ended."""
        mirrors = [table.consumer.progress_key for table in self.tables.values() if table.target.repairs_gaps]
        stored = StoredProgress()
        stored.read(self.resources.warehouse.report_file())
        return stored.find_unloaded(mirrors)

    def _report_gap(self, table: TableState) -> None:
        """Report the check `no_gap` immediately if its result has changed."""
        for result in self._find_gap(table):
            if table.has_gap is not (not result.passed):
                table.has_gap = not result.passed
                report_check(self.context.instance, result)

    def _find_gap(self, table: TableState) -> Sequence[dg.AssetCheckResult]:
        """The check `no_gap`; none while another process has the warehouse open."""
        try:
            return [self.check_gaps(table)]
        except TargetBusyError:
            return []

    def check_gaps(self, table: TableState) -> dg.AssetCheckResult:
        """The check `no_gap`: open gaps found by this run or an earlier one. Raises TargetBusyError."""
        store = TableProgress(self.resources.warehouse.report_file())
        return no_gap(table.consumer.asset_key, open_gaps(store, table.consumer.progress_key))

    def build_tasks(self) -> list[ConsumerTask]:
        """The tables as tasks of a pool; the mirrors of a group are one task."""
        tasks: dict[object, ConsumerTask] = {}
        for table in self.tables.values():
            options = ConsumeOptions(
                client_id=table.consumer.client_id, max_changes=self.config.max_changes, start=table.consumer.start,
                bookmarks=self._bookmarks,
            )  # fmt: skip
            task = ConsumerTask(table.consumer.table, table.target, options)
            group = table.consumer.together or table.consumer.table
            first = tasks.get(group)
            tasks[group] = task if first is None else replace(first, together=(*first.together, task))
        return list(tasks.values())

    @property
    def source(self) -> str:
        """Name of the source of all tables."""
        return next(iter(self.tables.values())).consumer.name.source

    def open_reader(self) -> Any:
        """A reader of the stream of the source, to be opened."""
        return self.resources.jetstream.reader(self.source)

    def _bookmarks(self) -> Sequence[Bookmark]:
        store: PositionStore
        with self.resources.positions.store() as store:
            return store.bookmarks.load(self.source)

    def process_reports(self, reports: Iterable[TableReport]) -> None:
        """Add the reports to the totals. Record a new error as an observation and a failed check of the table."""
        for report in reports:
            table = self.tables[report.table]
            name, key = table.consumer.name, table.consumer.asset_key
            if report.error is not None:
                is_new = _error_identity(report.error) != _error_identity(table.error)
                table.error, table.tries = report.error, report.tries
                if is_new:
                    shown = failure_metadata(
                        report.error, name, report.tries, show_values=self.resources.warehouse.show_values
                    )
                    self.context.log_event(dg.AssetObservation(key, metadata=shown))
                    report_check(self.context.instance, handled_check(key, report.error))
                    self.context.log.error(f"{name} is blocked: {report.error}")
            elif report.done is not None:
                if table.error is not None:
                    self.context.log.info(f"{name} is no longer blocked")
                    report_check(self.context.instance, handled_check(key, None))
                table.error = None
                table.total.add(report.done)
                table.unreported.add(report.done)

    def report_loads(self) -> None:
        """Report the progress of loads. Materialize a table as soon as it is loaded, with its row count."""
        for table in self.tables.values():
            if table.load.report(self.context, table.target.load_progress):
                # Loads of other tables use the file: only the count is read now, the rest at the end of the run.
                shown = table_metadata(self.resources.warehouse, TablePreview(table.consumer.table, 0))
                if not shown:
                    name = table.consumer.name
                    self.context.log.warning(f"{name}: MySQL has no such table; the mirror is created with the table")
                self._log_materialization(table, {**shown, **table.load.metadata()})

    def materialize_progress(self, *, is_end: bool = False) -> None:
        """Materialize each table that has new changes, at most once per report_s, and at the end.

        While another process has the warehouse open, nothing is reported; at the end, only what was applied.
        """
        due = [
            table
            for table in self.tables.values()
            if table.unreported.changes and (is_end or time.monotonic() >= table.report_at)
        ]
        can_read = bool(due) and self.resources.warehouse.can_read()
        for table in due if can_read or is_end else ():
            self._log_materialization(table, self._metadata(table, table.unreported, can_read=can_read))
            if can_read:
                self._report_gap(table)
            table.unreported, table.report_at = ConsumerTotals(), time.monotonic() + self.config.report_s

    def _log_materialization(self, table: TableState, shown: Mapping[str, dg.MetadataValue]) -> None:
        self.context.log_event(dg.AssetMaterialization(table.consumer.asset_key, metadata=dict(shown)))

    def _metadata(
        self, table: TableState, total: ConsumerTotals, *, can_read: bool = True
    ) -> Mapping[str, dg.MetadataValue]:
        warehouse, shows = self.resources.warehouse if can_read else None, table.consumer.shows
        shown = TablePreview(shows, self.config.preview_rows) if shows else None
        done = build_metadata(total, table.consumer.progress_key, shown, warehouse)
        columns = column_metadata(warehouse, table.consumer) if warehouse and table.target.repairs_gaps else {}
        return {**done, **columns, **table.load.metadata()}


def _error_identity(error: BinlogSyncError | None) -> str:
    """Identifies the error that blocks a table: equal for every attempt at the same change."""
    return error.change_id if isinstance(error, HandlerError) else str(error or "")
