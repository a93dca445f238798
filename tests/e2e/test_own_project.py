"""docs/own-project.md is executed: a project in an empty folder, the wheel, one YAML file, one `.env`, a mirror."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from binlogsync import servers
from tests.databases import FreshDatabase
from tests.e2e.own_project import OwnProject, block, install_wheel, project
from tests.waiting import wait_until

__all__ = ["project"]  # a fixture

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.mark.exhaustive
def test_a_row_is_mirrored_in_a_project_of_a_user(
    project: OwnProject, mysql: FreshDatabase, nats_server: servers.NATSServer, tmp_path: Path
) -> None:
    mysql.execute("CREATE TABLE orders (id INT PRIMARY KEY COMMENT 'the key', total DECIMAL(10,2))")
    mysql.execute("INSERT INTO orders VALUES (1, 1.50)")
    begun = time.monotonic()
    install_wheel(project, tmp_path / "dist")
    where = project.run(project.python, "-c", "import binlogsync, dagster_binlogsync; print(binlogsync.__file__)")
    assert where.startswith(str(project.folder))
    assert "dagster_binlogsync.BinlogSyncComponent" in project.dg(block("bash").splitlines()[1])
    project.write_component(mysql, nats_server.url)
    name = mysql.name
    *commands, dev = block("bash", 1).splitlines()
    assert dev == "dg dev"
    outputs = {command: project.dg(command) for command in commands}
    assert f"tables/{name}/{name}/orders" in outputs["dg list defs"]
    assert f"consume_{name}" in outputs["dg list defs"]
    assert mysql.server.cdc_password not in "".join(outputs.values())

    count = f"SELECT count(*) FROM {name}.orders"
    with project.dev() as log:
        wait_until(lambda: project.rows(count) == [(1,)], 120, f"the existing row; see {log}")
        seconds = time.monotonic() - begun
        mysql.execute("INSERT INTO orders VALUES (2, 2.50)")
        wait_until(lambda: project.rows(count) == [(2,)], 90, f"the inserted row; see {log}")
    text = log.read_text()
    assert "will not be used" not in text
    assert mysql.server.cdc_password not in text
    sys.stderr.write(f"\nfrom installing the wheel to the first mirrored row: {seconds:.0f} s\n")


def test_the_yaml_of_the_page_is_short() -> None:
    assert len(block("yaml").splitlines()) <= 11
