"""The continuous run: one long op per source that keeps all its consumers live.

Like a tail it works in shifts (dagster_binlogsync/tail/run.py): after `shift_s`, or when its sensor requests it because
the definitions were reloaded, the run finishes the current changes and ends with SUCCESS, and the sensor starts the
next one. Terminate ends it as CANCELED after a clean end, and the sensor starts no new run. A table whose handler fails
is retried inside of the run, and shown by its check `handled`; the run does not fail.

The lease in the position store shows the sensor that the process is alive. It does not protect data: progress is
conditional, so of two writers only one can store its changes.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from binlogsync.collection import exempt_existing_objects
from binlogsync.consume.continuous import ContinuousOptions, ContinuousPool
from binlogsync.consume.pool import ConsumerTask
from binlogsync.errors import BinlogSyncError, LeaseLostError, WireError
from binlogsync.stores import PositionStore
from binlogsync.stores.lease_heartbeat import LeaseHeartbeat
from binlogsync.waiting import Interval
from dagster_binlogsync.consume.check_reporter import CheckReporter
from dagster_binlogsync.consume.config import ContinuousConfig
from dagster_binlogsync.consume.lag_report import LagReport
from dagster_binlogsync.consume.run import ConsumerRun
from dagster_binlogsync.consume.run_coordination import find_stop_reason, find_waiting_runs, release_tables
from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.failures import build_failure, error_metadata
from dagster_binlogsync.keys import consumers_lease
from dagster_binlogsync.resource_keys import SourceResources
from dagster_binlogsync.run_status import TERMINATED, find_run_end
from dagster_binlogsync.stop_flag import StopFlag
from dagster_binlogsync.tail.dev_process import DevProcesses
from dagster_binlogsync.tail.reporter import DEV_ENDED

POLL_S = 0.25
STATUS_S = 5.0
RUNS_S = 2.0
STREAM_S = 2.0
LEASE_PATIENCE_S = 120.0
GROUP = "another run asked for tables of a group of mirrors"
Table = tuple[str, str]


def run_continuously(
    context: dg.OpExecutionContext,
    config: ContinuousConfig,
    consumers: Sequence[ConsumerSpec],
    resources: SourceResources,
    stop: StopFlag,
) -> None:
    """Keep the consumers live until the end of the shift, or until `stop` is set.

    Raises dg.Failure if another run has taken over, or the stream cannot be read at all;
    DagsterExecutionInterruptedError if a user terminated the run.
    """
    source = consumers[0].name.source
    with resources.positions.store() as store:
        try:
            run = _ContinuousRun.start(context, config, consumers, resources)
            run.consume(stop, source, store)
        except LeaseLostError as error:
            raise dg.Failure(f"Another continuous run has taken over: {error}", allow_retries=False) from None
        except BinlogSyncError as error:
            raise build_failure(error, error_metadata(error, ())) from None
        message = f"ended ({stop.reason}) after {run.tables.changes} change(s), all of them stored"
        context.log.info(message)
        if find_run_end(context.instance, context.run_id) == TERMINATED:
            raise dg.DagsterExecutionInterruptedError(message)


@dataclass(slots=True)
class _ContinuousRun:
    """One continuous run.

    Attributes:
        tables: the tables and their reports.
        released: tables that another run consumes, with its id.
    """

    context: dg.OpExecutionContext
    config: ContinuousConfig
    tables: ConsumerRun
    released: dict[Table, str] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        context: dg.OpExecutionContext,
        config: ContinuousConfig,
        consumers: Sequence[ConsumerSpec],
        resources: SourceResources,
    ) -> "_ContinuousRun":
        """The run with the targets of the consumers."""
        return cls(context, config, ConsumerRun.start(context, config, consumers, resources))

    def consume(self, stop: StopFlag, source: str, store: PositionStore) -> None:
        """Consume until a stop; the reasons of a stop are in the flag."""
        lease = store.leases.claim(consumers_lease(source), self.context.run_id, take_over=True)
        heartbeat = LeaseHeartbeat(
            f"the consumers of {source}", lambda: store.leases.renew(lease), patience_s=LEASE_PATIENCE_S
        )
        heartbeat.start()
        try:
            self._consume(stop, heartbeat)
            heartbeat.report_alive()
        finally:
            heartbeat.stop()
            if not heartbeat.is_lost:
                store.leases.release(lease)

    def _consume(self, stop: StopFlag, heartbeat: LeaseHeartbeat) -> None:
        config, tables = self.config, self.tables
        options = ContinuousOptions(
            max_workers=config.max_workers, gather_s=config.gather_s, first_wait_s=config.retry_s,
            longest_wait_s=max(60.0, config.retry_s),
        )  # fmt: skip
        shift_ends = time.monotonic() + config.shift_s
        status, runs, dev = Interval(STATUS_S), Interval(RUNS_S, is_due_at_once=False), DevProcesses.find()
        lag_due = Interval(config.lag_report_s)
        if not self._wait_for_stream(stop, heartbeat):
            return
        tasks = self._free_tasks()
        exempt_existing_objects()  # a full collection would delay the changes of all tables
        with (
            tables.open_reader() as reader,
            ContinuousPool(tasks, tables.open_reader, options, stop) as pool,
        ):
            lag = LagReport(self.context, reader, list(tables.tables.values()))
            checks = CheckReporter(tables)
            while not stop.is_set():
                tables.process_reports(pool.reports(POLL_S))
                tables.report_loads()
                tables.materialize_progress()
                heartbeat.report_alive()
                if time.monotonic() >= shift_ends:
                    stop.request("end of the shift")
                if status.is_due() and (reason := find_stop_reason(self.context)) is not None:
                    stop.request(reason)
                if dev is not None and dev.are_gone():
                    stop.request(DEV_ENDED)
                if runs.is_due():
                    self._share_tables(pool, stop)
                if lag_due.is_due():
                    lag.report(frozenset(self.released))
                checks.step()
            pool.end()
            tables.process_reports(pool.reports(0))
            tables.report_loads()
            tables.materialize_progress(is_end=True)
            lag.report(frozenset(self.released))

    def _wait_for_stream(self, stop: StopFlag, heartbeat: LeaseHeartbeat) -> bool:
        """Wait until the tail has created the stream; False if the run was stopped before."""
        is_logged = False
        while not stop.is_set():
            heartbeat.report_alive()
            try:
                with self.tables.open_reader():
                    return True
            except WireError as error:
                if not is_logged:
                    self.context.log.info(f"waiting for the stream: {error}")
                    is_logged = True
            if (reason := find_stop_reason(self.context)) is not None:
                stop.request(reason)
            stop.wait(STREAM_S)
        return False

    def _keys(self) -> Mapping[Table, dg.AssetKey]:
        return {table: state.consumer.asset_key for table, state in self.tables.tables.items()}

    def _free_tasks(self) -> list[ConsumerTask]:
        """The tasks of the tables that no other run consumes; a group of mirrors is left out as a whole."""
        consuming, _ = find_waiting_runs(self.context.instance, self.context.run_id, self._keys())
        self.released = {table: run_id for run_id, found in consuming.items() for table in found}
        free: list[ConsumerTask] = []
        for task in self.tables.build_tasks():
            owner = next((self.released[each.table] for each in task.tasks if each.table in self.released), None)
            if owner is None:
                free.append(task)
            else:
                self.released |= dict.fromkeys((each.table for each in task.tasks), owner)
        for table, run_id in self.released.items():
            self.context.log.info(f"run {run_id} consumes {'.'.join(table)}; this run takes it up afterwards")
        return free

    def _share_tables(self, pool: ContinuousPool, stop: StopFlag) -> None:
        """Leave the tables that other runs wait for, and take up those whose run has ended."""
        consuming, waiting = find_waiting_runs(self.context.instance, self.context.run_id, self._keys())
        tasks = {task.table: task for task in self.tables.build_tasks()}
        for run_id in waiting:
            wanted = consuming[run_id] - set(self.released)
            if any(table not in tasks or tasks[table].together for table in wanted):
                stop.request(GROUP)  # the next continuous run leaves the group out
                return
            left = [table for table in wanted if pool.remove(table, POLL_S)]
            self.released |= dict.fromkeys(left, run_id)
            if len(left) == len(wanted):  # otherwise a handler has not returned yet
                self.context.log.info(f"run {run_id} consumes {_join(consuming[run_id])} now")
                release_tables(self.context.instance, run_id, self.context.run_id)
        ended = {table for table, run_id in self.released.items() if run_id not in consuming}
        for table in ended:
            if table in tasks and not tasks[table].together:
                del self.released[table]
                pool.add(tasks[table])
                self.context.log.info(f"{'.'.join(table)} is live again")
            else:
                stop.request("the other run of a group of mirrors has ended")


def _join(tables: frozenset[Table]) -> str:
    return ", ".join(sorted(".".join(table) for table in tables))
