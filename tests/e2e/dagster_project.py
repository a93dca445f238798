"""A Dagster project on real servers: a database, an empty stream, an instance. With the fixture `project`."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from binlogsync import servers
from binlogsync.position import GtidSet
from binlogsync.settings import Settings
from binlogsync.sinks.jetstream import JetStreamSink
from binlogsync.stores import Lease
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.targets.duckdb.file import DuckFile
from dagster_binlogsync.consume.config import ConsumeConfig
from dagster_binlogsync.discovery import ConsumerDefinitions
from dagster_binlogsync.options import build_tail_config
from dagster_binlogsync.tables import TableAsset
from dagster_binlogsync.tail.job import TailConfig
from pipelines.definitions import build_deployment
from resources.connections import configured_resources
from tests.databases import FreshDatabase
from tests.e2e.tailing import TailThread

# One database for the events of all runs: Dagster's default creates one for each run, which takes longer than a run.
_CONFIG = """\
telemetry: {{enabled: false}}
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {{base_dir: {folder}/history}}
"""
SHIFT_S, LONGEST_SHIFT_S = 2.0, 120.0
OF_THE_INSTANCE = (
    "dagster._core.storage.event_log.sqlite.consolidated_sqlite_event_log",
    "dagster._core.storage.runs",
)
"""What a process imports to open an instance."""


@dataclass(frozen=True)
class NotesTableRow:
    """The model of the table `notes`."""

    id: int
    text: str | None


@dataclass(frozen=True)
class DagsterProject:
    """A database with two tables, an empty stream, and the environment that names both."""

    mysql: FreshDatabase
    source: str
    folder: Path
    environment: Mapping[str, str]
    instance: dg.DagsterInstance

    def definitions(self, *tables: TableAsset, **options: Any) -> dg.Definitions:
        settings = Settings.read(self.folder)
        config = TailConfig(**{**build_tail_config(settings).model_dump(), "flush_interval_s": 0.2, **options})
        return build_deployment(settings, ConsumerDefinitions(tables, (), ()), config, running=False)

    def publish(self) -> None:
        """Publish the server's transactions, by a tail without Dagster."""
        settings = Settings.read(self.folder)
        options = replace(settings.tail(), flush_interval_s=0.2)
        with closing(settings.positions()) as store:
            sinks = [JetStreamSink(settings.jetstream())]
            with TailThread(settings.mysql(), sinks, store, options, take_over=True) as tail:
                tail.catch_up()

    def tail(self, built: dg.Definitions) -> dg.ExecuteInProcessResult:
        """Run the tail's job until the server's transactions are stored: a busy machine needs a longer shift."""
        executed = GtidSet.parse(self.mysql.execute("SELECT @@GLOBAL.gtid_executed")[0][0])
        job = built.resolve_job_def(f"tail_{self.source}")
        assert job.run_config is not None
        ((op, default),) = job.run_config["ops"].items()
        shift_s = SHIFT_S
        while shift_s <= LONGEST_SHIFT_S:
            config = {"ops": {op: {"config": {**default["config"], "shift_s": shift_s}}}}
            result = job.execute_in_process(instance=self.instance, run_config=config)
            if not result.success or self._has_stored(executed):
                return result
            shift_s *= 2
        raise AssertionError(f"a shift of {shift_s / 2:g} s of the tail did not store {executed}")

    def _has_stored(self, executed: GtidSet) -> bool:
        with closing(SQLitePositionStore(self.folder / "positions.db")) as store:
            saved = store.checkpoints.load(self.source)
        return saved is not None and saved.gtids is not None and saved.gtids.contains(executed)

    def tick(self, built: dg.Definitions, sensor: str) -> tuple[list[dg.RunRequest], str]:
        """(run requests, skip message) of one sensor tick."""
        made = built.resolve_sensor_def(sensor)
        with dg.build_sensor_context(
            instance=self.instance,
            resources=configured_resources(Settings.read(self.folder)),
            sensor_name=sensor,
            last_sensor_start_time=1.0,
        ) as context:
            found = made.evaluate_tick(context)
        return list(found.run_requests or []), found.skip_message or ""

    def consume(
        self, built: dg.Definitions, *tables: TableAsset, idle_s: float = 0.5, max_s: float = 150.0
    ) -> dg.ExecuteInProcessResult:
        job = built.resolve_implicit_global_asset_job_def()
        config = dg.RunConfig(ops={f"consumers_{self.source}": ConsumeConfig(idle_s=idle_s, max_s=max_s)})
        keys = [table.key for table in tables]
        return job.execute_in_process(
            instance=self.instance, run_config=config, asset_selection=keys, raise_on_error=False
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query on the warehouse."""
        with DuckFile(self.folder / "warehouse.duckdb").transaction() as connection:
            return connection.execute(sql).fetchall()

    def lease(self) -> Lease | None:
        store = SQLitePositionStore(self.folder / "positions.db")
        try:
            return store.leases.load(self.source)
        finally:
            store.close()

    def assert_mirrored(self, table: str) -> None:
        here = self.rows(f'SELECT * FROM "{self.mysql.name}"."{table}" ORDER BY 1')
        assert here == self.mysql.execute(f"SELECT * FROM {table} ORDER BY 1")


@pytest.fixture(scope="session")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the databases of a new instance: to create them takes seconds."""
    folder = tmp_path_factory.mktemp("dagster_home")
    (folder / "dagster.yaml").write_text(_CONFIG.format(folder=folder))
    with dg.DagsterInstance.from_config(str(folder)):
        return folder


@pytest.fixture
def project(
    mysql: FreshDatabase,
    nats_server: servers.NATSServer,
    dagster_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[DagsterProject]:
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
        "BINLOGSYNC_TABLE_LISTS": str(tmp_path / "tables"),
        "BINLOGSYNC_START": f"{status[0]}:{status[1]}",
        "BINLOGSYNC_INCLUDE": f"{mysql.name}.*",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    mysql.execute("CREATE TABLE orders (id INT PRIMARY KEY, customer VARCHAR(40), total DECIMAL(10,2), at DATETIME(3))")
    mysql.execute("CREATE TABLE notes (id INT PRIMARY KEY, text TEXT)")
    shutil.copytree(dagster_home, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dagster.yaml").write_text(_CONFIG.format(folder=tmp_path))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield DagsterProject(mysql, mysql.name, tmp_path, environment, instance)
