"""Policies of mirrors in Dagster: frozen columns fail the check until the job accepts them; a kept table passes."""

from typing import Any

import dagster as dg
import pytest

from dagster_binlogsync.operations.decisions import AcceptConfig
from dagster_binlogsync.tables import mirror
from tests.e2e.dagster_project import DagsterProject


def checks_of(done: dg.ExecuteInProcessResult) -> dict[str, Any]:
    return {check.check_name: check for check in done.get_asset_check_evaluations()}


def test_frozen_columns_fail_the_check_until_they_are_accepted(project: DagsterProject) -> None:
    orders = mirror(f"{project.source}.orders", schema_contract="freeze", target_schema="raw_{source}", metadata="_op")
    built = project.definitions(orders)
    project.mysql.execute("INSERT INTO orders (id) VALUES (1)")
    project.publish()
    done = project.consume(built, orders)
    assert done.success
    [materialized] = done.get_asset_materialization_events()
    columns = materialized.materialization.metadata["dagster/column_schema"].value.columns  # type: ignore[union-attr]
    assert [column.name for column in columns] == ["id", "customer", "total", "at", "_op"]
    project.mysql.execute("ALTER TABLE orders ADD note VARCHAR(9)")
    project.mysql.execute("INSERT INTO orders (id, note) VALUES (2, 'x')")
    project.publish()
    refused = project.consume(built, orders)
    assert not refused.success
    handled = checks_of(refused)["handled"]
    assert not handled.passed
    message = str(handled.description).replace("\\", "")
    assert "ADD note" in message
    columns_id = message.partition(f"accept {project.source}.orders ")[2].partition(" ")[0]
    config = AcceptConfig(table=f"{project.source}.orders", columns_id=columns_id, reason="agreed", by="Ada")
    accepted = built.resolve_job_def(f"accept_columns_{project.source}").execute_in_process(
        instance=project.instance, run_config=dg.RunConfig(ops={f"accept_new_columns_{project.source}": config})
    )
    assert accepted.success
    done = project.consume(built, orders)
    assert done.success
    assert checks_of(done)["handled"].passed
    assert checks_of(done)["equals_source"].passed
    assert project.rows(f'SELECT id, note FROM "raw_{project.source}".orders ORDER BY 1') == [(1, None), (2, "x")]


@pytest.mark.exhaustive
def test_a_kept_table_passes_its_checks(project: DagsterProject) -> None:
    notes = mirror(f"{project.source}.notes", on_drop="keep")
    built = project.definitions(notes)
    project.mysql.execute("INSERT INTO notes VALUES (1, 'first')")
    project.publish()
    assert project.consume(built, notes).success
    project.mysql.execute("DROP TABLE notes")
    project.publish()
    done = project.consume(built, notes)
    assert done.success
    checks = checks_of(done)
    assert checks["equals_source"].passed
    assert checks["row_count"].passed
    assert "keeps the rows of the dropped table" in str(checks["row_count"].description)
    assert project.rows(f'SELECT * FROM "{project.source}".notes') == [(1, "first")]
