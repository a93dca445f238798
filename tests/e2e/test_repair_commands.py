"""Repairs by `binlogsync verify --repair` beside a live mirror, and by the check `equals_source` of Dagster."""

from __future__ import annotations

from pathlib import Path

from binlogsync.servers import NATSServer
from binlogsync.targets.duckdb.file import quote
from binlogsync.targets.duckdb.store import DuckStore
from dagster_binlogsync.tables import mirror
from tests.cli_deployment import TIMEOUT_S, Deployment
from tests.cli_here import run_here, tailing_here
from tests.databases import FreshDatabase
from tests.e2e.dagster_project import DagsterProject
from tests.nats_commands import delete_stream
from tests.waiting import wait_until

FILE = "warehouse.duckdb"


def change(path: Path, *statements: str) -> None:
    with DuckStore(path).transaction() as connection:
        for statement in statements:
            connection.execute(statement)


def count_rows(path: Path, database: str, table: str) -> int:
    """Number of rows; 0 without the table."""
    with DuckStore(path).transaction() as connection:
        found = connection.execute(
            "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [database, table]
        ).fetchall()
        if not found:
            return 0
        (count,) = connection.execute(f"SELECT count(*) FROM {quote(database, table)}").fetchone() or (0,)
        return int(count)


def test_the_command_repairs_a_live_mirror(tmp_path: Path, mysql: FreshDatabase, nats_server: NATSServer) -> None:
    mysql.execute("CREATE TABLE one (id INT PRIMARY KEY, v VARCHAR(20))")
    mysql.execute("INSERT INTO one VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    deployment = Deployment(tmp_path, mysql, nats_server)
    deployment.settings["WAREHOUSE_PATH"] = FILE
    path, name = tmp_path / FILE, f"{mysql.name}.one"
    command = ("verify", name, "--client-id", "mirror")
    try:
        with tailing_here(deployment):
            mysql.execute("INSERT INTO one VALUES (4, 'd')")
            with deployment.running("mirror", name, "--to", FILE):
                wait_until(lambda: path.exists() and count_rows(path, mysql.name, "one") == 4, TIMEOUT_S, "rows")
                table = quote(mysql.name, "one")
                change(path, f"DELETE FROM {table} WHERE id = 2", f"INSERT INTO {table} VALUES (9, 'x')")
                found = run_here(deployment, *command)
                assert found.returncode == 1, found.stdout
                repaired = run_here(deployment, *command, "--repair")
                assert repaired.returncode == 0, repaired.stdout
                lines = repaired.stdout.splitlines()
                assert lines[0].startswith(f"{name}: repaired 2 to 9: 2 keys, 1 rows read at ")
                assert lines[0].endswith("; 1 inserted, 0 updated, 1 deleted")
                assert lines[1].startswith(
                    f"{name}: repaired 2 keys (1 inserted, 0 updated, 1 deleted; 1 rows read); now equal at "
                )
                assert len(lines) == 2
                assert run_here(deployment, *command, "--repair").stdout.startswith(f"{name}: equal at ")
    finally:
        delete_stream(nats_server.url, deployment.stream)


def test_the_check_repairs_if_configured(project: DagsterProject) -> None:
    orders = mirror(f"{project.source}.orders")
    built = project.definitions(orders)
    project.mysql.execute("INSERT INTO orders (id, customer) VALUES (1, 'Ada'), (2, 'Bob'), (3, 'Cy')")
    project.publish()
    assert project.consume(built, orders).success
    project.assert_mirrored("orders")
    path = project.folder / FILE
    table = quote(project.mysql.name, "orders")
    change(path, f"UPDATE {table} SET customer = 'x' WHERE id < 3")
    job = built.resolve_job_def(f"verify_{project.source}")
    found = job.execute_in_process(instance=project.instance)
    assert [(check.check_name, check.passed) for check in found.get_asset_check_evaluations() if not check.passed] == [
        ("equals_source", False)
    ]
    op = f"{project.source}_equals_source"
    done = job.execute_in_process(instance=project.instance, run_config={"ops": {op: {"config": {"repair": True}}}})
    check = next(check for check in done.get_asset_check_evaluations() if check.check_name == "equals_source")
    assert check.passed
    assert {name: value.value for name, value in check.metadata.items() if name.startswith("repair_")} == {
        "repair_keys": 2,
        "repair_rows_read": 2,
        "repair_inserted": 0,
        "repair_updated": 2,
        "repair_deleted": 0,
    }
    project.assert_mirrored("orders")
    with DuckStore(path).begin() as transaction:
        records = transaction.load_repairs(orders.consumer.progress_key)
    assert [record.who for record in records] == [f"Dagster run {done.run_id}"]
