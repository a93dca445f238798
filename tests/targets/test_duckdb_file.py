"""DuckDB files are open for one transaction; a locked file is retried, and the error names the process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from binlogsync.errors import ConsumeError, SinkError, TargetBusyError
from binlogsync.targets.duckdb import attached_file
from binlogsync.targets.duckdb.file import DuckFile, ensure_once, quote
from tests.duck import locked_by_another, query
from tests.waiting import wait_until


def test_a_transaction_is_atomic(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "new" / "folder" / "a.duckdb")
    with file.transaction() as connection:
        connection.execute("CREATE TABLE t (a INT)")
    with pytest.raises(SinkError, match="nothing was stored"), file.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1); SELECT error('no')")
    assert query(file.path, "FROM t") == []


def test_another_process_can_open_it_between_transactions(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "a.duckdb")
    with file.transaction() as connection:
        connection.execute("CREATE TABLE t (a INT)")
    with locked_by_another(file.path):
        pass
    with file.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1)")


def test_a_transaction_waits_for_a_lock(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "a.duckdb", timeout_s=120)
    with locked_by_another(file.path) as process:
        assert process.stdin is not None
        timer = threading.Timer(0.3, process.stdin.close)
        timer.start()
        with file.transaction() as connection:
            connection.execute("CREATE TABLE t (a INT)")
        timer.join()


def test_the_timeout_error_names_the_process_that_has_the_lock(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "a.duckdb", timeout_s=0.2, error=ConsumeError)
    with (
        locked_by_another(file.path) as process,
        pytest.raises(
            ConsumeError, match=rf"(?s)a\.duckdb was locked by process {process.pid} \(.*import duckdb.*\) for 0\.2 s"
        ),
        file.transaction(),
    ):
        pass


def test_the_process_that_is_waited_for_is_known_until_it_has_closed_the_file(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "a.duckdb", timeout_s=0.0, error=ConsumeError)
    with locked_by_another(file.path) as process:
        for _ in range(2):
            with pytest.raises(TargetBusyError), file.transaction():
                pass
        holder = file.holder
        assert holder is not None
        assert holder.process.startswith(f"process {process.pid} (")
        assert holder.held_s > 0
    with DuckFile(file.path).transaction():
        assert file.holder is None


def test_a_stop_ends_the_wait_of_all_threads_for_another_process(tmp_path: Path) -> None:
    files, stop = [DuckFile(tmp_path / "a.duckdb", 3600, ConsumeError) for _ in range(3)], threading.Event()

    def transact(file: DuckFile) -> None:
        with file.transaction():
            pass

    with locked_by_another(files[0].path) as process, ThreadPoolExecutor() as pool:
        for file in files:
            file.stop = stop
        waiting = [pool.submit(transact, file) for file in files]
        wait_until(lambda: files[0].holder is not None, 60, "the wait")
        stop.set()
        for each in waiting:
            assert isinstance(error := each.exception(60), TargetBusyError)
            assert f"locked by process {process.pid}" in str(error)
    transact(files[0])  # after the stop the file is free


def test_a_read_that_can_be_left_out_does_not_wait_for_another_process(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    first, second = DuckFile(path, 3600, ConsumeError), DuckFile(path, 3600, ConsumeError)
    second.holder_wait_s, first.stop = 0.0, threading.Event()
    with locked_by_another(path), ThreadPoolExecutor() as pool:
        waiting = pool.submit(lambda: first.transaction().__enter__())
        wait_until(lambda: first.holder is not None, 60, "the wait")
        with pytest.raises(TargetBusyError), second.transaction():
            pass
        first.stop.set()
        assert isinstance(waiting.exception(60), TargetBusyError)


def test_a_waiting_thread_names_the_process_that_blocks_all_threads(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    first = DuckFile(path, timeout_s=60)
    begun = threading.Event()

    def wait_for_the_lock() -> None:
        begun.set()
        with first.transaction():
            pass

    with locked_by_another(path) as process:
        thread = threading.Thread(target=wait_for_the_lock)
        thread.start()
        assert begun.wait(60)
        wait_until(lambda: first._shared.blocked_by is not None, 30, "the first thread to meet the lock")  # noqa: SLF001
        with (
            pytest.raises(SinkError, match=rf"was locked by process {process.pid} \("),
            DuckFile(path, timeout_s=0.2).transaction(),
        ):
            pass
        assert process.stdin is not None
        process.stdin.close()
        thread.join(60)
    assert not thread.is_alive()


def test_threads_run_transactions_sequentially(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    with DuckFile(path).transaction() as connection:
        connection.execute("CREATE TABLE t (a INT)")

    def write() -> None:
        file = DuckFile(path)
        for _ in range(5):
            with file.transaction() as connection:
                connection.execute("INSERT INTO t SELECT count(*) FROM t")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert query(path, "SELECT a FROM t ORDER BY a") == [(i,) for i in range(20)]


def test_kept_open_until_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DuckFile, "hold_s", 600.0)
    monkeypatch.setattr(DuckFile, "longest_hold_s", 600.0)
    file, other = DuckFile(tmp_path / "a.duckdb"), DuckFile(tmp_path / "a.duckdb")
    with file.transaction(keep_open=True) as connection:
        connection.execute("CREATE TABLE t (a INT)")
    assert (file.is_open, other.is_open) == (True, False)
    with pytest.raises(AssertionError), locked_by_another(file.path):
        pass
    with other.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    assert file.is_open, "another thread's transaction does not close a file that is kept open"
    file.release()
    with locked_by_another(file.path):
        pass


def test_it_is_kept_open_for_a_limited_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DuckFile, "hold_s", 0.0)
    monkeypatch.setattr(DuckFile, "longest_hold_s", 0.0)
    file = DuckFile(tmp_path / "a.duckdb")
    with file.transaction(keep_open=True):
        pass
    assert not file.is_open
    with locked_by_another(file.path):
        pass


def test_a_thread_waits_for_another_until_the_timeout(tmp_path: Path) -> None:
    file, other = DuckFile(tmp_path / "a.duckdb"), DuckFile(tmp_path / "a.duckdb", timeout_s=0.05)
    with (
        file.transaction(),
        pytest.raises(SinkError, match=r"in use by another thread of this process for 0\.05 s"),
        other.transaction(),
    ):
        pass


def test_a_failing_transaction_does_not_affect_others(tmp_path: Path) -> None:
    file, other = DuckFile(tmp_path / "a.duckdb"), DuckFile(tmp_path / "a.duckdb")
    with file.transaction(keep_open=True) as connection:
        connection.execute("CREATE TABLE t (a INT)")
    with pytest.raises(SinkError), other.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1); SELECT error('no')")
    with file.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(0,)]


def test_the_error_names_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    path.write_text("no database" * 1000)
    with pytest.raises(SinkError, match=r"DuckDB cannot open .*a\.duckdb"), DuckFile(path).transaction():
        pass


def test_names_are_quoted() -> None:
    assert quote('a"b', "c d") == '"a""b"."c d"'


def test_statements_of_a_small_transaction_run_in_one_thread_unless_the_file_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, setting = DuckFile(tmp_path / "a.duckdb"), "SELECT current_setting('threads')"

    def threads(*, is_small: bool) -> int:
        with file.transaction(is_small=is_small) as connection:
            [(number,)] = connection.execute(setting).fetchall()
            return int(number)

    every = duckdb.connect().execute(setting).fetchall()[0][0]
    assert [threads(is_small=each) for each in (False, True, True, False, True)] == [every, 1, 1, every, 1]
    monkeypatch.setattr(attached_file, "_LARGE_BYTES", 1)
    assert threads(is_small=True) == every


def test_tables_are_created_again_in_a_new_file_of_the_same_name(tmp_path: Path) -> None:
    file = DuckFile(tmp_path / "a.duckdb")

    def ensured() -> list[bool]:
        with file.transaction() as connection:
            return [ensure_once(connection, "a table"), ensure_once(connection, "a table")]

    def fail() -> None:
        with file.transaction() as connection:
            ensure_once(connection, "a table")
            connection.execute("SELECT error('the table is not stored')")

    with pytest.raises(SinkError):
        fail()
    assert ensured() == [True, False]
    assert ensured() == [False, False]
    file.path.unlink()
    assert ensured() == [True, False]
