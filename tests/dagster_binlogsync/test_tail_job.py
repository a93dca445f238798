"""How a shift ends, and that failed reports do not end it. Uses a fake tail; the e2e tests run the real one."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)

from binlogsync.errors import BinlogSyncError, DecodeError, FencedError, LeaseLostError, PositionError
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.tail.run import TailProgress
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.stop_flag import StopFlag, stop_on_signals
from dagster_binlogsync.tail.job import build_tail_job
from dagster_binlogsync.tail.reporter import TailReporter, binlog_metadata
from dagster_binlogsync.tail.run import build_tail_failure, run_shift
from tests.forked import ForkedProcess

CHECKPOINT = Checkpoint(
    BinlogPosition("binlog.000042", 1187),
    "3e11fa47-71ca-11e1-9e33-c80aa9429562",
    GtidSet.parse("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9"),
    ts_us=1_700_000_000_000_000,
)
IDLE = TailProgress(
    changes=0,
    transactions=0,
    flushes=0,
    bytes_read=0,
    dropped=0,
    seconds=0.0,
    checkpoint=None,
    lag_s=0.0,
    last_flush_changes=0,
    last_flush_reason=None,
    tables={},
    schema_changes=0,
    recoveries=(),
)
BUSY = replace(
    IDLE,
    changes=300,
    transactions=30,
    flushes=3,
    bytes_read=9000,
    seconds=10.0,
    checkpoint=CHECKPOINT,
    lag_s=0.25,
    last_flush_changes=100,
    last_flush_reason="interval",
    tables={("shop", "orders"): 200, ("shop", "order-items"): 100},
)


class FakeTail:
    """Has the interface of Tail: reports progress until it is stopped, then "flushes" and returns, or raises."""

    def __init__(
        self, error: BinlogSyncError | None = None, ask: Callable[[], None] | None = None, least_reports: int = 0
    ) -> None:
        self.error, self.ask, self.least_reports = error, ask, least_reports
        self.flushed = False

    def run(self, stop: threading.Event, on_progress: Callable[[TailProgress], None]) -> TailProgress:
        reports = 0
        while not stop.is_set() or reports < self.least_reports:
            on_progress(BUSY)
            reports += 1
            if self.error is not None and self.ask is None:
                raise self.error
            if self.ask is not None and reports == 1:
                self.ask()
            stop.wait(0.01)
        if self.error is not None:
            raise self.error
        self.flushed = True
        return BUSY


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run_job(
    instance: dg.DagsterInstance, tail: Any, shift_s: float = 60.0, *, break_reports: bool = False
) -> dg.ExecuteInProcessResult:
    @dg.op
    def shift(context: dg.OpExecutionContext) -> None:
        with stop_on_signals() as stop:
            reporter = TailReporter(context, "main", stop, report_s=0.0, shift_s=shift_s, status_s=0.0)
            if break_reports:
                reporter._context = BrokenContext(context)  # type: ignore[assignment]  # noqa: SLF001
            run_shift(context, tail, stop, reporter)

    @dg.job(executor_def=dg.in_process_executor)
    def job() -> None:
        shift()

    return job.execute_in_process(instance=instance, raise_on_error=False)


class BrokenContext:
    """A context whose storage is not available."""

    def __init__(self, context: dg.OpExecutionContext) -> None:
        self.log, self.run_id = context.log, context.run_id

    @property
    def instance(self) -> dg.DagsterInstance:
        raise OSError("the database is gone")

    def log_event(self, event: object) -> None:
        raise OSError("the database is gone")


def failure_of(result: dg.ExecuteInProcessResult) -> Any:
    return next(event.step_failure_data for event in result.all_events if event.is_step_failure)


def test_the_end_of_a_shift_is_success(instance: dg.DagsterInstance) -> None:
    tail = FakeTail()
    assert run_job(instance, tail, shift_s=0.05).success
    assert tail.flushed


def terminate(instance: dg.DagsterInstance) -> None:
    """Like Terminate: set the run status, then send the signal."""
    instance.report_run_canceling(instance.get_runs(limit=1)[0])
    os.kill(os.getpid(), signal.SIGTERM)


def test_terminate_interrupts_the_run_after_the_last_flush(instance: dg.DagsterInstance) -> None:
    tail = FakeTail(ask=lambda: terminate(instance))
    result = run_job(instance, tail)
    error = failure_of(result).error
    assert error.cls_name == "DagsterExecutionInterruptedError"
    assert "after the last flush, at binlog.000042:1187" in error.message
    assert tail.flushed
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.CANCELED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_alone_stops_the_run_with_success(instance: dg.DagsterInstance, number: signal.Signals) -> None:
    tail = FakeTail(ask=lambda: os.kill(os.getpid(), number))
    result = run_job(instance, tail)
    assert result.success
    assert tail.flushed
    said = [entry.user_message for entry in instance.all_logs(result.run_id) if not entry.is_dagster_event]
    assert said[-1].startswith(f"stopped ({number.name}) after the last flush")


def test_a_stop_is_a_stop_even_if_the_last_flush_fails(instance: dg.DagsterInstance) -> None:
    error = FencedError("stream CDC_MAIN moved on")
    assert run_job(instance, FakeTail(error, ask=lambda: os.kill(os.getpid(), signal.SIGINT))).success
    ended = run_job(instance, FakeTail(error, ask=lambda: terminate(instance)))
    assert failure_of(ended).error.cls_name == "DagsterExecutionInterruptedError"


def test_the_signal_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        assert signal.getsignal(signal.SIGTERM) is not before
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before
    assert stop.reason == "SIGTERM"


def test_the_first_reason_to_stop_is_kept() -> None:
    stop = StopFlag()
    stop.request("shift")
    stop.request("SIGTERM")
    assert stop.reason == "shift"


def test_reports_that_fail_do_not_stop_the_tail(instance: dg.DagsterInstance) -> None:
    tail = FakeTail()
    assert run_job(instance, tail, shift_s=0.1, break_reports=True).success
    assert tail.flushed


def test_a_run_that_was_marked_as_failed_stops(instance: dg.DagsterInstance) -> None:
    def fail_own_run() -> None:
        for run in instance.get_runs():
            if not run.is_finished:
                instance.report_run_failed(run, "not heard of")

    tail = FakeTail(ask=fail_own_run)
    result = run_job(instance, tail)
    assert not result.success
    assert tail.flushed
    assert "the run is FAILURE" in failure_of(result).user_failure_data.description


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (FencedError("stream CDC_MAIN moved on"), "second tail"),
        (LeaseLostError("run b holds it"), "Another tail now holds the lease"),
        (PositionError("binlog.000001 is purged"), "Choose a start position"),
        (DecodeError("too short", file="binlog.000042", pos=4, table="shop.orders"), "exclude"),
    ],
)
def test_a_failure_has_its_position_and_what_to_do(
    instance: dg.DagsterInstance, error: BinlogSyncError, advice: str
) -> None:
    shown = failure_of(run_job(instance, FakeTail(error))).user_failure_data
    assert str(error) in shown.description
    assert advice in shown.metadata["what_to_do"].value
    assert shown.metadata["position"].value == "binlog.000042:1187"
    assert build_tail_failure(error, None).allow_retries is False


def test_reports_have_numbers_and_materialize_only_changed_tables(instance: dg.DagsterInstance) -> None:
    run_job(instance, FakeTail(least_reports=3), shift_s=0.1)
    key = dg.AssetKey(["mysql", "main", "binlog"])
    records = instance.fetch_observations(key, limit=10_000).records
    metadata = [record.asset_observation.metadata for record in records if record.asset_observation]
    assert metadata[-1]["changes_per_s"].value == 30.0
    assert metadata[0]["changes_per_s"].value == 0.0, "rates are since the report before"
    assert metadata[0]["gtid_set"].value == str(CHECKPOINT.gtids)
    assert all(isinstance(metadata[0][name].value, int | float) for name in ("lag_s", "flush_changes", "bytes_per_s"))
    for table, changes in (("orders", 200), ("order-items", 100)):
        records = instance.fetch_materializations(TableName("main", "shop", table).stream_key, limit=50).records
        assert [
            record.asset_materialization.metadata["changes"].value for record in records if record.asset_materialization
        ] == [changes]


def test_the_tail_reports_a_sensor_without_ticks(tmp_path: Path) -> None:
    """As after the code server was killed, which `dagster dev` does not restart."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        keeper_was_silent(instance)


def keeper_was_silent(instance: dg.DagsterInstance) -> None:
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("binlogsync"), "__repository__"), "keep_main_tailed"
    )
    selector = origin.get_selector().get_id()
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
    instance.add_instigator_state(state)
    at = time.time() - 600
    kind, skipped = InstigatorType.SENSOR, TickStatus.SKIPPED
    instance.create_tick(
        TickData(state.instigator_origin_id, "keep_main_tailed", kind, skipped, at, selector_id=selector)
    )
    result = run_job(instance, FakeTail(), shift_s=0.1)
    said = [entry.user_message for entry in instance.all_logs(result.run_id) if not entry.is_dagster_event]
    assert any("had no tick for 6" in text and "Reload definitions" in text for text in said)
    [record] = instance.fetch_materializations(dg.AssetKey(["mysql", "main", "binlog"]), limit=5).records
    assert record.asset_materialization is not None
    assert float(str(record.asset_materialization.metadata["keeper_silent_s"].value)) > 590


def test_an_idle_tail_reports_too() -> None:
    assert binlog_metadata(IDLE)["position"].value == "none yet"


def test_the_job_has_the_tags_that_keep_it_single_and_unretried() -> None:
    job = build_tail_job("eu-west")
    assert job.name == "tail_eu_west"
    assert job.tags["binlogsync/source"] == "eu-west"
    assert job.tags["dagster/max_retries"] == "0"
    assert job.executor_def.name == "in_process"
    assert all(node.definition.name and not getattr(node.definition, "retry_policy", None) for node in job.nodes)


class WaitingTail:
    """Writes a line at its start and after its stop."""

    def run(self, stop: StopFlag, on_progress: Callable[[TailProgress], None]) -> TailProgress:
        on_progress(BUSY)
        print("tailing", flush=True)  # noqa: T201
        stop.wait(60)
        print("flushed", flush=True)  # noqa: T201
        return BUSY


def run_waiting_tail() -> None:
    """What the separate process does."""

    @dg.op
    def shift(context: dg.OpExecutionContext) -> None:
        tail: Any = WaitingTail()
        with stop_on_signals() as stop:
            run_shift(context, tail, stop, TailReporter(context, "main", stop, report_s=1, shift_s=60))

    @dg.job(executor_def=dg.in_process_executor)
    def job() -> None:
        shift()

    print("success" if job.execute_in_process().success else "failure")  # noqa: T201


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive)])
def test_a_signal_to_a_separate_process(number: signal.Signals) -> None:
    with ForkedProcess(
        "tests.dagster_binlogsync.test_tail_job", function="run_waiting_tail", stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "tailing\n"
            process.send_signal(number)
            assert process.wait(120) == 0
            assert process.stdout.read() == "flushed\nsuccess\n"
        finally:
            process.kill()
