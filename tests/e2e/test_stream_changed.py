"""A stream that is changed or loses a bucket while the tail runs: it is detected, and mirrors have every change."""

from __future__ import annotations

from pathlib import Path

import pytest
from nats.js.api import StreamConfig, SubjectTransform

from binlogsync.codec import subjects
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import FreshDatabase
from tests.duck import mirror_rows
from tests.e2e.tailing import TailThread, config_of, mirror, options_of, stream_sink
from tests.nats_commands import ask
from tests.waiting import wait_until


@pytest.mark.server
def test_changes_with_other_subjects_are_written_again(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    source, url = f"changed-{mysql.name}", nats_server.url
    name = subjects.stream_name(source)
    for table in ("stays", "moves"):
        mysql.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY)")
    options = options_of(source, mysql.name)
    with TailThread(config_of(mysql.server, source), [stream_sink(url)], MemoryPositionStore(), options) as tail:
        for table in ("stays", "moves"):
            mysql.execute(f"INSERT INTO {table} VALUES (1)")
        tail.catch_up()
        config: StreamConfig = ask(url, lambda js: js.stream_info(name)).config
        transform = SubjectTransform(src=subjects.table_subject(source, mysql.name, "moves"), dest="away.moves")
        ask(url, lambda js: js.update_stream(config.evolve(subject_transform=transform)))
        for table in ("moves", "stays", "moves"):
            mysql.execute(f"INSERT INTO {table} SELECT MAX(id) + 1 FROM {table}")

        def is_noticed() -> bool:
            return any("subject_transform is True and must be False" in each for each in tail.progress.recoveries)

        wait_until(is_noticed, 60, "the tail to notice")
        ask(url, lambda js: js.update_stream(config))
        mysql.execute("INSERT INTO stays VALUES (9)")
        tail.catch_up(90)
        # A bucket that is deleted meanwhile
        ask(url, lambda js: js.delete_key_value(subjects.schema_bucket(source)))
        mysql.execute("INSERT INTO stays VALUES (10)")
        tail.catch_up(90)
        wait_until(lambda: _has_schemas(url, source), 60, "the schemas to be written again")
    for table, expected in (("stays", [1, 2, 9, 10]), ("moves", [1, 2, 3])):
        mirror(url, source, tmp_path / "w.duckdb", (mysql.name, table))
        assert sorted(row[0] for row in mirror_rows(tmp_path / "w.duckdb", mysql.name, table)) == expected
    held = ask(url, lambda js: js.stream_info(name, subjects_filter=">")).state.subjects
    assert not [subject for subject in held if not subject.startswith("cdc.")]


def _has_schemas(url: str, source: str) -> bool:
    info = ask(url, lambda js: js.streams_info())
    held = {each.config.name: each.state.messages for each in info}
    return bool(held.get(f"KV_{subjects.schema_bucket(source)}", 0) >= 2)
