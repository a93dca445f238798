"""The Dagster project on real servers: the tail's job, the sensors' answers, the consumers' assets, mirror = SELECT."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from duckdb import DuckDBPyConnection

from binlogsync import Change, Consumer, Retry, embedded
from binlogsync.duckfile import DuckFile
from binlogsync.stores import Lease
from binlogsync.stores.sqlite import SQLitePositions
from pipelines.consuming import ConsumeConfig
from pipelines.definitions import build, connections
from pipelines.discovery import Found
from pipelines.skipping import SkipConfig
from pipelines.sources import configured_sources, tail_config
from pipelines.tables import AssetOptions, TableAsset, mirror, table_consumer
from pipelines.tail import TailConfig
from tests.databases import FreshDatabase
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass
class Note:
    """A row of `notes`."""

    id: int
    text: str | None


def on_note(change: Change[Note], connection: DuckDBPyConnection) -> None:
    """Keeps each version of each note."""
    connection.execute("CREATE TABLE IF NOT EXISTS versions (op VARCHAR, before VARCHAR, after VARCHAR)")
    before, after = (image.text if image else None for image in (change.before, change.after))
    connection.execute("INSERT INTO versions VALUES (?, ?, ?)", [change.op, before, after])


def refuse(change: Change[Note]) -> None:
    """Never works."""
    raise ValueError("not today")


class RefuseOne:
    """Handles every note but one."""

    def __init__(self, number: int) -> None:
        self.number, self.handled = number, list[int]()

    def __call__(self, change: Change[Note]) -> None:
        assert change.after is not None
        if change.after.id == self.number:
            raise ValueError("not this one")
        self.handled.append(change.after.id)


@dataclass(frozen=True)
class Hole:
    """The original's example."""

    id: int
    user_id: int
    content: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


def print_hole(change: Change[Hole]) -> None:
    """Prints before and after."""
    print(change.op, change.before, "->", change.after)  # noqa: T201


@dataclass(frozen=True)
class World:
    """A database with two tables, an empty stream, and the environment that names both."""

    mysql: FreshDatabase
    source: str
    folder: Path
    environment: Mapping[str, str]
    instance: dg.DagsterInstance

    def definitions(self, *tables: TableAsset, **options: Any) -> dg.Definitions:
        config = TailConfig(**{**tail_config().model_dump(), "shift_s": 3.0, "flush_interval_s": 0.2, **options})
        return build(configured_sources(), Found(tables, (), ()), config, running=False)

    def tail(self, built: dg.Definitions) -> dg.ExecuteInProcessResult:
        return built.resolve_job_def(f"tail_{self.source}").execute_in_process(instance=self.instance)

    def tick(self, built: dg.Definitions, sensor: str) -> tuple[list[dg.RunRequest], str]:
        """(runs asked for, what the sensor says)."""
        made = built.resolve_sensor_def(sensor)
        with dg.build_sensor_context(
            instance=self.instance,
            resources=connections(configured_sources()),
            sensor_name=sensor,
            last_sensor_start_time=1.0,
        ) as context:
            found = made.evaluate_tick(context)
        return list(found.run_requests or []), found.skip_message or ""

    def consume(self, built: dg.Definitions, *tables: TableAsset, idle_s: float = 0.5) -> dg.ExecuteInProcessResult:
        job = built.resolve_implicit_global_asset_job_def()
        config = dg.RunConfig(ops={f"consumers_{self.source}": ConsumeConfig(idle_s=idle_s, max_s=150)})
        keys = [table.key for table in tables]
        return job.execute_in_process(
            instance=self.instance, run_config=config, asset_selection=keys, raise_on_error=False
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Of the warehouse."""
        with DuckFile(self.folder / "warehouse.duckdb").transaction() as connection:
            return connection.execute(sql).fetchall()

    def lease(self) -> Lease | None:
        store = SQLitePositions(self.folder / "positions.db")
        try:
            return store.lease(self.source)
        finally:
            store.close()

    def assert_mirrored(self, table: str) -> None:
        here = self.rows(f'SELECT * FROM "{self.mysql.name}"."{table}" ORDER BY 1')
        assert here == self.mysql.execute(f"SELECT * FROM {table} ORDER BY 1")


@pytest.fixture
def world(
    mysql: FreshDatabase, nats_server: embedded.NATSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    status = mysql.execute("SHOW BINARY LOG STATUS")[0]
    environment = {
        "BINLOGSYNC_SOURCE": mysql.name,
        "BINLOGSYNC_MYSQL_HOST": mysql.server.host,
        "BINLOGSYNC_MYSQL_PORT": str(mysql.server.port),
        "BINLOGSYNC_MYSQL_USER": mysql.server.cdc_user,
        "BINLOGSYNC_MYSQL_PASSWORD": mysql.server.cdc_password,
        "BINLOGSYNC_NATS_URL": nats_server.url,
        "BINLOGSYNC_POSITIONS_PATH": str(tmp_path / "positions.db"),
        "BINLOGSYNC_WAREHOUSE_PATH": str(tmp_path / "warehouse.duckdb"),
        "BINLOGSYNC_AUDIT_PATH": str(tmp_path / "audit.duckdb"),
        "BINLOGSYNC_START": f"{status[0]}:{status[1]}",
        "BINLOGSYNC_INCLUDE": f"{mysql.name}.*",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    mysql.execute("CREATE TABLE orders (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), at DATETIME(3))")
    mysql.execute("CREATE TABLE notes (id INT PRIMARY KEY, text TEXT)")
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield World(mysql, mysql.name, tmp_path, environment, instance)


def materialization(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> Mapping[str, Any]:
    events = [event for event in result.get_asset_materialization_events() if event.asset_key == key]
    return {name: value.value for name, value in events[-1].materialization.metadata.items()}


def test_from_the_binlog_to_the_mirror_and_the_handler(world: World) -> None:
    orders = mirror(f"{world.source}.orders")
    notes = table_consumer(
        Note, on_note, table=f"{world.source}.notes", options=AssetOptions(shows=("main", "versions"))
    )
    built = world.definitions(orders, notes)
    assert "no stream" in world.tick(built, f"consume_{world.source}")[1].lower()

    world.mysql.execute(
        "INSERT INTO orders VALUES (1, 'Ada', 12.50, '2026-01-02 03:04:05.678'), (2, NULL, -0.05, NULL)"
    )
    world.mysql.execute("INSERT INTO notes VALUES (1, 'first')")
    assert world.tail(built).success
    asked, _ = world.tick(built, f"consume_{world.source}")
    assert [request.asset_selection for request in asked] == [[orders.key, notes.key]]
    assert world.consume(built, orders, notes).success
    world.assert_mirrored("orders")

    world.mysql.execute("UPDATE orders SET total = total + 1, id = id + 10 WHERE id = 1")
    world.mysql.execute("DELETE FROM orders WHERE id = 2")
    world.mysql.execute("UPDATE notes SET text = 'second' WHERE id = 1")
    world.mysql.execute("DELETE FROM notes")
    assert world.tail(built).success
    done = world.consume(built, orders, notes)
    assert done.success
    world.assert_mirrored("orders")
    expected = [("c", None, "first"), ("u", "first", "second"), ("d", "second", None)]
    assert world.rows("SELECT * FROM versions") == expected
    assert "nothing waits" in world.tick(built, f"consume_{world.source}")[1]

    shown = materialization(done, orders.key)
    assert (shown["updated"], shown["deleted"], shown["created"], shown["dagster/row_count"]) == (1, 1, 0, 1)
    assert "13.50" in shown["preview"]
    checks = [check for check in done.get_asset_check_evaluations() if check.asset_key == orders.key]
    assert {check.check_name: check.passed for check in checks} == {
        "handled": True,
        "backlog": True,
        "no_gap": True,
        "row_count": True,
        "equals_source": True,
        "fresh": True,
    }
    equal = next(check for check in checks if check.check_name == "equals_source")
    assert equal.metadata["mysql_rows"].value == 1
    with DuckFile(world.folder / "audit.duckdb").transaction() as connection:
        assert connection.execute("SELECT count(*) FROM changes").fetchone() == (7,)


def test_the_tail_reports_what_it_did(world: World) -> None:
    built = world.definitions()
    world.mysql.execute("INSERT INTO orders VALUES (1, 'Ada', 1, NULL), (2, 'Bob', 2, NULL)")
    assert world.tail(built).success
    last = _observations(world)[0].asset_observation
    assert last is not None
    assert last.metadata["changes_this_shift"].value == 2
    assert isinstance(last.metadata["lag_s"].value, float)
    assert str(last.metadata["gtid_set"].value)
    streams = world.instance.fetch_materializations(
        dg.AssetKey(["nats", world.source, world.source, "orders"]), limit=10
    )
    assert [r.asset_materialization.metadata["changes"].value for r in streams.records if r.asset_materialization] == [
        2
    ]


def test_a_failing_handler_holds_its_own_table_only(world: World) -> None:
    orders = mirror(f"{world.source}.orders")
    notes = table_consumer(Note, refuse, table=f"{world.source}.notes", retry=Retry(tries=5, first_wait_s=0.01))
    built = world.definitions(orders, notes)
    world.mysql.execute("INSERT INTO notes VALUES (1, 'first')")
    world.mysql.execute("INSERT INTO orders VALUES (1, 'Ada', 1, NULL)")
    assert world.tail(built).success
    done = world.consume(built, orders, notes)
    assert not done.success
    data: Any = next(event.step_failure_data for event in done.all_events if event.is_step_failure)
    assert "not today" in data.user_failure_data.description
    assert data.user_failure_data.metadata["tries"].value == 5
    assert "refuse" in data.user_failure_data.metadata["traceback"].value
    world.assert_mirrored("orders")
    assert materialization(done, orders.key)["changes"] == 1
    assert {event.asset_key for event in done.get_asset_materialization_events()} == {orders.key}
    checks = {
        (check.asset_key, check.check_name): check.passed
        for check in done.get_asset_check_evaluations()
        if check.check_name == "handled"
    }
    assert checks == {(orders.key, "handled"): True, (notes.key, "handled"): False}
    [seen] = world.instance.fetch_observations(notes.key, limit=10).records
    assert seen.asset_observation is not None
    assert str(seen.asset_observation.metadata["change_id"].value).endswith(":0")
    asked, said = world.tick(built, f"consume_{world.source}")
    assert [key for request in asked for key in request.asset_selection or ()] == [orders.key, notes.key], said


def test_a_person_skips_the_change_that_holds_a_table_up(world: World) -> None:
    refused = RefuseOne(2)
    notes = table_consumer(Note, refused, table=f"{world.source}.notes", retry=Retry(tries=2, first_wait_s=0.01))
    built = world.definitions(notes)
    world.mysql.execute("INSERT INTO notes VALUES (1, 'good'), (2, 'bad'), (3, 'good')")
    assert world.tail(built).success
    assert not world.consume(built, notes).success
    [seen] = world.instance.fetch_observations(notes.key, limit=10).records
    assert seen.asset_observation is not None
    change_id = str(seen.asset_observation.metadata["change_id"].value)

    def skip(change: str) -> dg.ExecuteInProcessResult:
        config = SkipConfig(table=f"{world.source}.notes", change_id=change, reason="a test row", by="Ada")
        return built.resolve_job_def("skip_change").execute_in_process(
            instance=world.instance, run_config=dg.RunConfig(ops={"skip_one_change": config}), raise_on_error=False
        )

    assert not skip(change_id[:-1] + "7").success
    assert skip(change_id).success
    done = world.consume(built, notes)
    assert done.success
    assert refused.handled == [1, 3]
    shown = materialization(done, notes.key)
    assert (shown["skipped_ever"], shown["skipped_because"], shown["changes"]) == (1, "a test row", 1)
    assert "Ada (run " in shown["skipped_by"]
    observed = world.instance.fetch_observations(notes.key, limit=10).records[0].asset_observation
    assert observed is not None
    assert change_id in str(observed.metadata["skipped_change"].value)
    with DuckFile(world.folder / "audit.duckdb").transaction() as connection:
        assert connection.execute("SELECT change_id, reason FROM skips").fetchall() == [(change_id, "a test row")]


def test_holes_print_before_and_after_in_dagster_and_outside(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.mysql.execute(
        "CREATE TABLE holes (id INT UNSIGNED PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, content TEXT, "
        "created_at TIMESTAMP(6) NOT NULL, updated_at DATETIME NOT NULL, deleted_at DATETIME)"
    )
    world.mysql.execute("SET time_zone = '+02:00'")
    world.mysql.execute(
        "INSERT INTO holes VALUES (1, 42, 'Found a coin.', '2026-01-02 05:04:05.5', '2026-01-02 03:04:05', NULL)"
    )
    world.mysql.execute("UPDATE holes SET content = NULL, deleted_at = '2026-02-03 04:05:06' WHERE id = 1")
    world.mysql.execute("DELETE FROM holes")
    table = f"{world.source}.holes"
    holes = table_consumer(Hole, print_hole, table=table)
    built = world.definitions(holes)
    assert world.tail(built).success
    capsys.readouterr()
    assert world.consume(built, holes).success
    inside = [line for line in capsys.readouterr().out.splitlines() if "->" in line]

    consumer = Consumer("client1", url=world.environment["BINLOGSYNC_NATS_URL"], source=world.source)
    consumer.register(Hole, print_hole, table=table)
    consumer.run(idle_s=0.2)
    outside = [line for line in capsys.readouterr().out.splitlines() if "->" in line]

    created = datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=ZoneInfo("UTC"))
    first = Hole(1, 42, "Found a coin.", created, datetime(2026, 1, 2, 3, 4, 5), None)
    second = Hole(1, 42, None, created, datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 2, 3, 4, 5, 6))
    assert inside == outside == [f"c None -> {first}", f"u {first} -> {second}", f"d {second} -> None"]


def test_a_signal_ends_a_consumer_in_good_order(world: World) -> None:
    orders = mirror(f"{world.source}.orders")
    built = world.definitions(orders)
    world.mysql.execute("INSERT INTO orders VALUES (1, 'Ada', 1, NULL)")
    assert world.tail(built).success
    with ThreadPoolExecutor(1) as other:
        other.submit(_interrupt_when, lambda: _is_mirrored(world))
        done = world.consume(built, orders, idle_s=120)
    assert done.success
    assert materialization(done, orders.key)["changes"] == 1


def test_terminate_lets_the_tail_flush_and_the_keeper_holds(world: World) -> None:
    built = world.definitions()
    environment = {
        **os.environ,
        **world.environment,
        "DAGSTER_HOME": str(world.folder),
        "BINLOGSYNC_FLUSH_INTERVAL_S": "3600",
    }
    command = [
        sys.executable,
        "-m",
        "dagster",
        "job",
        "execute",
        "-m",
        "pipelines.definitions",
        "-j",
        f"tail_{world.source}",
    ]
    keeper = f"keep_{world.source}_tailed"
    assert [request.run_key for request in world.tick(built, keeper)[0]] == [f"{world.source}:after:none"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(world.lease, 60, "the tail to claim its lease")
            wait_until(lambda: _observations(world), 60, "the tail's first observation")
            assert "alive" in world.tick(built, keeper)[1]
            world.mysql.execute("INSERT INTO orders VALUES (1, 'Ada', 1, NULL)")
            run = world.instance.get_runs(dg.RunsFilter(tags={"binlogsync/source": world.source}))[0]
            wait_until(lambda: _is_read(world), 30, "the row to be read")
            world.instance.report_run_canceling(run)
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()
    ended = world.instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.CANCELED
    lease = world.lease()
    assert lease is not None
    assert lease.released
    with DuckFile(world.folder / "audit.duckdb").transaction() as connection:
        assert connection.execute("SELECT count(*) FROM changes").fetchone() == (1,)
    assert "switch this sensor off and on" in world.tick(built, keeper)[1]


def _interrupt_when(condition: Callable[[], bool]) -> None:
    """SIGTERM to this process, which has a handler for it by then."""
    wait_until(condition, 60, "a row in the mirror")
    os.kill(os.getpid(), signal.SIGTERM)


def _is_mirrored(world: World) -> bool:
    with DuckFile(world.folder / "warehouse.duckdb").transaction() as connection:
        known = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'orders'"
        return connection.execute(known).fetchall() == [(1,)]


def _observations(world: World) -> Sequence[dg.EventLogRecord]:
    return world.instance.fetch_observations(dg.AssetKey(["mysql", world.source, "binlog"]), limit=10).records


def _is_read(world: World) -> bool:
    """The dump thread has sent everything: it waits for more."""
    states = world.mysql.execute("SELECT state FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
    return any("waiting for" in str(state[0]).lower() for state in states)
