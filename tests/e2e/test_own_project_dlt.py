"""`Definitions.merge` with those of dagster-dlt: both load in one project, and each one's assets run."""

from __future__ import annotations

from pathlib import Path

import pytest

from binlogsync import servers
from tests.databases import FreshDatabase
from tests.e2e.own_project import OwnProject, install_wheel, project
from tests.waiting import wait_until

__all__ = ["project"]  # a fixture

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.timeout(1500)]

_LOADS = '''
import dagster as dg
import dlt
from dagster_dlt import DagsterDltResource, dlt_assets

from dagster_binlogsync import build_definitions, mirror

ORDERS = mirror("{source}.orders", source="{source}")


@dlt.source
def countries():
    @dlt.resource(name="countries", primary_key="code", write_disposition="replace")
    def rows():
        yield [{{"code": "CH"}}, {{"code": "NO"}}]

    return rows


@dlt_assets(
    dlt_source=countries(),
    dlt_pipeline=dlt.pipeline("countries", destination=dlt.destinations.duckdb("loads.duckdb"), dataset_name="world"),
    name="countries",
)
def load_countries(context: dg.AssetExecutionContext, dlt: DagsterDltResource):
    yield from dlt.run(context=context)


@dg.asset(deps=[ORDERS.key, *load_countries.keys], automation_condition=dg.AutomationCondition.eager())
def orders_by_country() -> None:
    """Both are upstream."""


defs = dg.Definitions.merge(
    build_definitions(consumers=[ORDERS]),
    dg.Definitions(
        [load_countries, orders_by_country],
        resources={{"dlt": DagsterDltResource()}},
        executor=dg.multiprocess_executor,
    ),
)
'''


def test_definitions_merge_with_those_of_dlt(
    project: OwnProject, mysql: FreshDatabase, nats_server: servers.NATSServer, tmp_path: Path
) -> None:
    mysql.execute("CREATE TABLE orders (id INT PRIMARY KEY, country CHAR(2))")
    mysql.execute("INSERT INTO orders VALUES (1, 'CH')")
    install_wheel(project, tmp_path / "dist")
    project.install("dagster-dlt", "dlt[duckdb]")
    values = {
        "SOURCE": mysql.name,
        "MYSQL_HOST": mysql.server.host,
        "MYSQL_PORT": str(mysql.server.port),
        "MYSQL_USER": mysql.server.cdc_user,
        "MYSQL_PASSWORD": mysql.server.cdc_password,
        "NATS_URL": nats_server.url,
        "INCLUDE": f"{mysql.name}.*",
        "SENSORS": "running",
    }
    (project.folder / ".env").write_text("".join(f"BINLOGSYNC_{name}={value}\n" for name, value in values.items()))
    (project.folder / "src" / "my_project" / "defs" / "loads.py").write_text(_LOADS.format(source=mysql.name))
    project.dg("dg check defs")
    listed = project.dg("dg list defs")
    for name in (f"tables/{mysql.name}/{mysql.name}/orders", "dlt_countries_countries", "orders_by_country"):
        assert name in listed
    with project.dev() as log:
        wait_until(
            lambda: project.rows(f"SELECT country FROM {mysql.name}.orders") == [("CH",)], 180, f"the row; see {log}"
        )
        output = project.run(
            project.folder / ".venv" / "bin" / "dg", "launch", "--assets", 'key:"dlt_countries_countries"'
        )
        assert "RUN_SUCCESS" in output
