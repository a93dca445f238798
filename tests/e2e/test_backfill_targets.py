"""Each target of a replay, with injected failures.

At the end it has exactly the changes of the audit log, once and in order, and no live consumer has moved.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from binlogsync.change import Change
from binlogsync.change_batch import ChangeBatch
from binlogsync.cli.main import main
from binlogsync.consume.handler import Handler
from binlogsync.consume.retry import Retry
from binlogsync.errors import ConfigError, HandlerError
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamBatch, StreamReader
from binlogsync.replay.origin import Origin
from binlogsync.replay.ranges import ReplayPlan
from binlogsync.replay.run import ReplayResult, ReplayTask, replay_ranges
from binlogsync.replay.targets import ReplayState, ReplayTarget
from binlogsync.replay.to_parquet import ParquetTarget, read_parquet
from binlogsync.replay.to_stream import SubjectTarget
from binlogsync.replay.to_tables import HandlerTarget, TableTarget
from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.targets.duckdb.file import META_SCHEMA
from tests.duck import mirror_rows, query
from tests.e2e.backfill_workload import CustomerRow, TailedWorkload, assert_rows, file_of_ids, note_ids, rows_of
from tests.e2e.tailing import mirror

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.server, pytest.mark.slow]

# The command may finish before another process kills it.
KILLED_COMMAND = """
import os, signal
from binlogsync.replay.to_parquet import ParquetTarget
write = ParquetTarget.write
calls = []
def write_and_die(self, *arguments):
    write(self, *arguments)
    calls.append(None)
    if len(calls) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
ParquetTarget.write = write_and_die
from binlogsync.cli.main import main
main()
"""


class InjectedError(Exception):
    """Raised instead of a kill."""


class FailingTarget:
    """A target that fails during or after its n-th write, and leaves its data unchanged."""

    def __init__(self, target: ReplayTarget, at: int) -> None:
        self.name, self._target, self._left = target.name, target, at

    def begin(self, plan: ReplayPlan, stop: threading.Event) -> ReplayState:
        return self._target.begin(plan, stop)

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        self._target.write(items, stop)
        self._left -= 1
        if not self._left:
            raise InjectedError

    def finish(self) -> None:
        self._target.finish()

    def close(self) -> None:
        self._target.close()


def replay_through_failures(
    tailed: TailedWorkload,
    table: str,
    make: Callable[[], ReplayTarget],
    deaths: Sequence[int] = (3, 1, 4),
    batch: int = 300,
) -> ReplayResult:
    """Replay the whole table in as many attempts as necessary; each attempt makes its own plan, of the same text."""
    with tailed.sources(table) as sources:
        span = sources.resolve_range(f"seq:{sources.stream.bounds()[0]}" if sources.stream else "oldest", "head")
        for number, at in enumerate((*deaths, 10**9)):
            target = make()
            plan = ReplayPlan(tailed.source, tailed.database, table, "everything", (span,), f"try {number}")
            origin: Origin = "binlog" if number % 2 else "auto"
            try:
                return replay_ranges(
                    ReplayTask(sources, plan, FailingTarget(target, at), origin, batch), threading.Event()
                )
            except InjectedError:
                assert at < 10**9
            finally:
                target.close()
    raise AssertionError("unreachable")


def test_parquet_files_have_each_change_once_through_failures(tailed: TailedWorkload, tmp_path: Path) -> None:
    folder = tmp_path / "orders"
    done = replay_through_failures(tailed, "orders", lambda: ParquetTarget(folder))
    expected = [row.row for row in tailed.rows("orders")]
    assert_rows(rows_of(list(read_parquet(folder))), expected, "Parquet")
    assert (done.changes, done.plan.number) == (len(expected), "try 0")
    assert done.counts == Counter(row[1] for row in expected)
    assert done.before >= 300
    frame = pandas.read_parquet(folder)
    assert len(frame) == len(expected)
    assert pq.read_table(folder / "part-00001.parquet").schema.field("ts_us").type == pa.timestamp("us", "UTC")
    assert json.loads((folder / "_manifest.json").read_text())["finished"]


def test_a_file_that_is_not_in_the_manifest_is_ignored(
    tailed: TailedWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "visits"
    write_manifest, calls = ParquetTarget._write_manifest, []  # noqa: SLF001 - the moment between part and manifest

    def dies(self: ParquetTarget, *, finished: bool) -> None:
        calls.append(finished)
        if len(calls) == 4:
            raise InjectedError
        write_manifest(self, finished=finished)

    monkeypatch.setattr(ParquetTarget, "_write_manifest", dies)
    replay_through_failures(tailed, "visits", lambda: ParquetTarget(folder), deaths=(10**8,))
    assert_rows(rows_of(list(read_parquet(folder))), [row.row for row in tailed.rows("visits")], "Parquet")


def test_a_folder_with_other_files_is_not_changed(tailed: TailedWorkload, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(ConfigError, match=r"contains thesis\.txt but no _manifest\.json.*choose a new folder"):
        replay_through_failures(tailed, "visits", lambda: ParquetTarget(tmp_path))
    first, stop = ParquetTarget(tmp_path / "new"), threading.Event()
    first.begin(tailed.plan("visits", words="this"), stop)
    with pytest.raises(ConfigError, match="another replay is writing to this folder"):
        ParquetTarget(tmp_path / "new").begin(tailed.plan("visits", words="this"), stop)
    first.close()
    with pytest.raises(ConfigError, match="contains another replay .*: this"):
        ParquetTarget(tmp_path / "new").begin(tailed.plan("visits", words="that"), stop)


@pytest.mark.parametrize("table", ["orders", "visits"])
def test_a_table_is_built_beside_the_mirror_and_the_consumer_does_not_move(
    tailed: TailedWorkload, tmp_path: Path, table: str
) -> None:
    path = tmp_path / "warehouse.duckdb"
    mirror(tailed.nats.url, tailed.source, path, (tailed.database, table))
    progress = f"SELECT * FROM {META_SCHEMA}.progress"
    before = query(path, progress)
    for deaths in ((3, 1), ()):  # a finished replay starts again
        done = replay_through_failures(tailed, table, lambda: TableTarget(path, tailed.database, table), deaths)
        assert done.changes == len(tailed.rows(table))
        assert (done.before > 200 * sum(deaths)) == bool(deaths)
        assert mirror_rows(path, f"replay_{tailed.database}", table) == mirror_rows(path, tailed.database, table)
        assert query(path, progress) == before
    assert query(path, f"SELECT count(*), count(finished_at) FROM {META_SCHEMA}.backfills") == [(2, 2)]


def test_a_handler_writes_once_through_its_failures(tailed: TailedWorkload, tmp_path: Path) -> None:
    path, failures = file_of_ids(tmp_path), iter((150, 400))
    fails_at, seen = next(failures), 0

    def handler(change: Change[CustomerRow], connection: duckdb.DuckDBPyConnection) -> None:
        nonlocal fails_at, seen
        seen += 1
        if seen == fails_at:
            fails_at = next(failures, 10**9)
            raise InjectedError
        note_ids(change, connection)

    def make() -> HandlerTarget:
        return HandlerTarget(lambda: Handler(CustomerRow, handler, path, Retry(tries=1)))

    for _ in range(2):
        with pytest.raises(HandlerError, match="InjectedError"):
            replay_through_failures(tailed, "customers", make, deaths=(), batch=100)
    replay_through_failures(tailed, "customers", make, deaths=(2,), batch=100)
    expected = [row.row[0] for row in tailed.rows("customers")]
    assert len(expected) > 400
    assert [row[0] for row in query(path, "SELECT id FROM ids ORDER BY rowid")] == expected
    assert query(path, f"SELECT client FROM {META_SCHEMA}.progress") == [], "the live consumer has none yet"


@pytest.mark.parametrize(
    "options", [{}, {"format": "arrow"}, {"changes_per_message": 7}], ids=["json", "arrow", "lines"]
)
def test_a_subject_has_each_change_once_and_in_order_through_failures(
    tailed: TailedWorkload, options: dict[str, Any]
) -> None:
    name = f"replay-{next(iter(options), 'json').replace('_', '-')}-{tailed.database.replace('_', '-')}"
    nats = JetStreamOptions(url=tailed.nats.url, **options)
    replay_through_failures(tailed, "orders", lambda: SubjectTarget(nats, name))
    expected = [row.row for row in tailed.rows("orders")]
    with StreamReader(NatsOptions(url=tailed.nats.url), name) as reader:
        assert set(reader.tables()) == {(tailed.database, "orders")}
        reader.ensure_durable("look", tailed.database, "orders", 1)
        found: list[ChangeBatch] = []
        while batches := reader.fetch("look", 5000, 0.5):
            found += [item.batch for item in batches]
        assert_rows(rows_of(found), expected, "subject")
    if not options:
        other = tailed.plan("visits", words="something else")
        with pytest.raises(ConfigError, match="is the stream of the source itself"):
            SubjectTarget(nats, tailed.source).begin(other, threading.Event())


def test_a_killed_command_resumes(
    tailed: TailedWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "files"
    tailed.write_settings(tmp_path)
    table = f"{tailed.database}.visits"
    arguments = ["replay", table, "--from", "seq:1", "--to", f"parquet:{folder}", "--batch", "30"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_COMMAND, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(folder.glob("part-*"))) >= 10
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    code = main(arguments)
    output = capsys.readouterr().err
    assert code == 0, output
    expected = [row.row for row in tailed.rows("visits")]
    assert_rows(rows_of(list(read_parquet(folder))), expected, "files of the command")
    said = re.search(r"([\d,]+) changes \((.*)\) from the stream, ([\d,]+) of them by an earlier run", output)
    assert said is not None, output
    assert said[1] == f"{len(expected):,}"
    assert int(said[3].replace(",", "")) >= 200
    assert "100%" in output
