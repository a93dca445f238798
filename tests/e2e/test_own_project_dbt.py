"""docs/own-project.md, "dbt downstream": a dbt model in the file of the mirrors runs when a mirror changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from binlogsync import servers
from tests.databases import FreshDatabase
from tests.e2e.own_project import OwnProject, block, install_wheel, project
from tests.waiting import wait_until

__all__ = ["project"]  # a fixture

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.timeout(1500)]

SECTION = "## dbt downstream"
# dbt-core 1.12 requires a package whose installation downloads a program from elsewhere than the package index.
PACKAGES = ("dagster-dbt", "dbt-core>=1.11,<1.12", "dbt-duckdb>=1.10")


def write_dbt_project(project: OwnProject, database: str) -> None:
    """The files of the section, for tables of this source and database."""
    folder = project.folder / "analytics"
    (folder / "models").mkdir(parents=True)
    sources = block("yaml", 2, SECTION).replace("[tables, main, shop,", f"[tables, {database}, {database},")
    (folder / "dbt_project.yml").write_text(block("yaml", 0, SECTION))
    (folder / "profiles.yml").write_text(block("yaml", 1, SECTION))
    (folder / "models" / "shop.yml").write_text(sources.replace("name: shop", f"name: {database}"))
    (folder / "models" / "order_totals.sql").write_text(block("sql", 0, SECTION).replace('"shop"', f'"{database}"'))
    (project.folder / "src" / "my_project" / "defs" / "analytics.py").write_text(block("python", 0, SECTION))


def test_a_dbt_model_runs_when_its_mirror_changed(
    project: OwnProject, mysql: FreshDatabase, nats_server: servers.NATSServer, tmp_path: Path
) -> None:
    mysql.execute("CREATE TABLE orders (id INT PRIMARY KEY, total DECIMAL(10,2))")
    mysql.execute("CREATE TABLE quiet (id INT PRIMARY KEY)")
    mysql.execute("INSERT INTO orders VALUES (1, 1.50)")
    install_wheel(project, tmp_path / "dist")
    project.install(*PACKAGES)
    project.write_component(mysql, nats_server.url)
    write_dbt_project(project, mysql.name)
    project.dg("dg utils refresh-defs-state")
    project.dg("dg check defs")
    totals = "SELECT orders::INT, total::VARCHAR FROM analytics.order_totals"
    with project.dev() as log:
        wait_until(lambda: project.rows(totals) == [(1, "1.50")], 180, f"the model; see {log}")
        mysql.execute("INSERT INTO orders VALUES (2, 2.50)")
        wait_until(lambda: project.rows(totals) == [(2, "4.00")], 180, f"the model with the inserted row; see {log}")
        assert project.rows(f"SELECT count(*) FROM {mysql.name}.orders") == [(2,)]
