"""`binlogsync bookmarks` and `binlogsync rewind`, in this process, with settings in a .env file."""

from __future__ import annotations

import secrets
from pathlib import Path

import pyarrow as pa
import pytest

from binlogsync import Consumer
from binlogsync.cli import main as cli
from binlogsync.consume.progress import ProgressKey
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.targets.duckdb.file import META_SCHEMA
from tests.duck import query
from tests.e2e.backfill_workload import TailedWorkload
from tests.e2e.tailing import mirror
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def folder(tailed: TailedWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tailed.write_settings(
        tmp_path, WAREHOUSE_PATH=str(tmp_path / "w.duckdb"), AUDIT_PATH=str(tmp_path / "audit.duckdb")
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_bookmarks_are_listed_added_pinned_and_deleted(
    tailed: TailedWorkload, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tailed.store.bookmarks.load(tailed.source)
    row = tailed.rows("orders")[50]
    assert cli.main(["bookmarks", "add", "v3", "--at", row.committed.isoformat()]) == 0
    assert cli.main(["bookmarks", "unpin", "v3"]) == 0
    assert cli.main(["bookmarks", "pin", kept[0].key]) == 0
    capsys.readouterr()
    assert cli.main(["bookmarks", "list"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(kept) + 1
    assert [line[0] for line in lines] == sorted(line[0] for line in lines)
    by_key = {line[0]: line for line in lines}
    assert by_key[kept[0].key][4] == "pinned"
    (added,) = [line for line in lines if line[1] == "person"]
    assert added[0].endswith("_v3")
    assert added[4] == "-"
    assert cli.main(["bookmarks", "delete", "v3"]) == 0
    assert cli.main(["bookmarks", "unpin", kept[0].key]) == 0
    assert cli.main(["bookmarks", "delete", "v3"]) == 1
    assert "'v3' is not a bookmark of source" in capsys.readouterr().err
    assert tailed.store.bookmarks.load(tailed.source) == kept


def test_a_consumer_is_rewound_from_the_command_line(
    tailed: TailedWorkload, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (tailed.database, "customers")
    path, name = folder / "w.duckdb", f"{tailed.database}.customers"
    whose = ["--client", "binlogsync", "--progress", str(path)]
    assert mirror(tailed.nats.url, tailed.source, path, table).changes == len(tailed.rows("customers"))
    assert cli.main(["rewind", name, "--to", "seq:1", "--reason", "just to see", *whose]) == 0
    assert "set back to after" in capsys.readouterr().err
    assert mirror(tailed.nats.url, tailed.source, path, table).changes == len(tailed.rows("customers"))
    for file, where in ((path, f"{META_SCHEMA}.rewinds"), (folder / "audit.duckdb", "rewinds")):
        assert query(file, f"SELECT direction, place, reason FROM {where}") == [("back", "seq:1", "just to see")]
    assert cli.main(["rewind", name, "--to", "oldest", *whose]) == 1
    assert "may have dropped changes after oldest" in capsys.readouterr().err


def test_a_consumer_that_keeps_its_progress_in_nats_is_rewound_too(
    tailed: TailedWorkload, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, client, seen = f"{tailed.database}.visits", f"rewound-{secrets.token_hex(4)}", []
    consumer = Consumer(client, url=tailed.nats.url, source=tailed.source)

    def on_visits(batch: pa.RecordBatch) -> None:
        seen.extend(batch.column("id").to_pylist())

    def run(changes: int) -> None:
        """Runs until the handler has had so many changes; on a busy machine one may end before the first message."""

        def is_done() -> bool:
            consumer.run(idle_s=0.5)
            return len(seen) >= changes

        wait_until(is_done, 60, f"{changes} changes")

    consumer.register(None, on_visits, table=name)
    expected = [row.row[0] for row in tailed.rows("visits")]
    run(len(expected))
    assert seen == expected
    half = tailed.rows("visits")[len(expected) // 2]
    at = half.committed.isoformat()
    assert cli.main(["rewind", name, "--to", at, "--client", client, "--reason", "again"]) == 0
    first = next(n for n, row in enumerate(tailed.rows("visits")) if row.committed >= half.committed)
    run(len(expected) + len(expected[first:]))
    assert seen == expected + expected[first:]
    with NatsConnection(NatsOptions(url=tailed.nats.url), "test") as connection:
        key = ProgressKey(client, tailed.source, tailed.database, "visits")
        (line,) = NatsProgress(connection, tailed.source).moves(key)
        assert "set back to after" in line
        assert line.endswith("; again")


def test_a_table_without_a_handler_is_refused(
    tailed: TailedWorkload, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{tailed.database}.visits"
    assert cli.main(["replay", name, "--from", "seq:1", "--to", "handler"]) == 1
    assert f"pipelines.consumers has no consumer of {name}" in capsys.readouterr().err
    monkeypatch.setenv("BINLOGSYNC_CONSUMERS", "nowhere.at_all")
    assert cli.main(["replay", name, "--from", "seq:1", "--to", "handler"]) == 1
    assert "cannot be imported from nowhere.at_all" in capsys.readouterr().err
    assert cli.main(["replay", name, "--from", "seq:1", "--to", "elsewhere"]) == 1
    assert "not a replay target; write table, handler" in capsys.readouterr().err
    assert cli.main(["replay", name, "--from", "seq:1"]) == 0
    said = capsys.readouterr().err
    assert "into table replay_" in said
    assert f"{len(tailed.rows('visits')):,} changes" in said
