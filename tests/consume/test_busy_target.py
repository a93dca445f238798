"""A file that another process has open delays a consumer, and does not fail it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from binlogsync.consume.engine import consume
from binlogsync.consume.pool import ConsumerTask, WorkerPool, WorkerPoolOptions
from binlogsync.errors import ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.targets.duckdb.store import DuckStore
from tests.consume.test_consume import QUICK, SAMPLES, SampleStream, expected_rows, path, stream
from tests.duck import locked_by_another, mirror_rows
from tests.waiting import wait_until

__all__ = ["path", "stream"]  # fixtures


def test_a_file_that_another_process_has_open_is_waited_for(
    stream: SampleStream, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream.write(6)
    stream.consume(Mirror(path, *SAMPLES))
    stream.write(6)
    store = DuckStore(path, timeout_s=0.05, error=ConsumeError)
    with locked_by_another(path) as process, ThreadPoolExecutor() as pool:
        mirrored = pool.submit(stream.consume, Mirror(store, *SAMPLES))
        wait_until(lambda: "Waiting for it" in caplog.text, 60, "the warning")
        assert process.stdin is not None
        process.stdin.close()
        assert mirrored.result(120).is_drained
    assert mirror_rows(path, *SAMPLES) == expected_rows(12)
    [warning] = [record.message for record in caplog.records if "Waiting for it" in record.message]
    assert f"{path} was locked by process {process.pid}" in warning


def test_a_stop_ends_the_wait_for_a_file(stream: SampleStream, path: Path) -> None:
    stream.write(6)
    store, stop = DuckStore(path, timeout_s=0.05, error=ConsumeError), threading.Event()
    stop.set()
    with (
        store.transaction(),
        StreamReader(NatsOptions(url=stream.url), stream.name) as reader,
        pytest.raises(ConsumeError, match="in use by another thread"),
    ):
        consume(reader, SAMPLES, Mirror(store.another(), *SAMPLES), QUICK, stop)


def test_a_stop_of_a_pool_ends_the_wait_for_a_file_and_fails_no_table(stream: SampleStream, path: Path) -> None:
    stream.write(6)
    store, stop = DuckStore(path, timeout_s=3600, error=ConsumeError), threading.Event()
    task = ConsumerTask(SAMPLES, Mirror(store, *SAMPLES), QUICK)
    options = NatsOptions(url=stream.url)
    with locked_by_another(path):
        with WorkerPool([task], lambda: StreamReader(options, stream.name), WorkerPoolOptions(), stop) as pool:
            wait_until(lambda: store.holder is not None, 60, "the wait")
        assert pool.reports(0) == []
    stream.consume(Mirror(path, *SAMPLES))
    assert mirror_rows(path, *SAMPLES) == expected_rows(6)
