"""Existing rows of tables that no client changes reach their mirrors: the sensor starts one run, which loads them."""

from typing import Any

import dagster as dg
import pytest

from binlogsync.snapshot import chunks
from dagster_binlogsync.tables import mirror
from tests.e2e.dagster_project import DagsterProject

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROWS = 300


def create_quiet_tables(project: DagsterProject, *tables: str) -> None:
    rows = ", ".join(f"({number}, 'row {number}')" for number in range(ROWS))
    for table in tables:
        project.mysql.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, text VARCHAR(40))")
        project.mysql.execute(f"INSERT INTO {table} VALUES {rows}")


def metadata_of(done: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dict[str, Any]:
    """Metadata of the last materialization."""
    events = [event for event in done.get_asset_materialization_events() if event.asset_key == key]
    return {name: value.value for name, value in events[-1].materialization.metadata.items()}


def log_lines(project: DagsterProject, done: dg.ExecuteInProcessResult) -> list[str]:
    return [entry.user_message for entry in project.instance.all_logs(done.run_id) if not entry.is_dagster_event]


def test_one_run_of_the_sensor_loads_all_tables_that_nobody_changes(
    project: DagsterProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loads are reported in the run, and as observations."""
    for limit, rows in (("SMALL_ROWS", -1), ("CHUNK_ROWS", 50), ("_FIRST_ROWS", 50)):
        monkeypatch.setattr(chunks, limit, rows)
    create_quiet_tables(project, "quiet", "silent")
    quiet, silent, absent = (mirror(f"{project.mysql.name}.{table}") for table in ("quiet", "silent", "absent"))
    built = project.definitions(quiet, silent, absent, start="now")
    assert project.tail(built).success
    sensor = f"consume_{project.source}"
    [request], _ = project.tick(built, sensor)
    assert {*(request.asset_selection or ())} == {quiet.key, silent.key, absent.key}

    done = project.consume(built, quiet, silent, absent)
    assert done.success
    for table in (quiet, silent):
        project.assert_mirrored(table.name.table)
        shown = metadata_of(done, table.key)
        assert (shown["loaded_rows"], shown["dagster/row_count"], shown["changes"]) == (ROWS, ROWS, 0)
        assert shown["load_seconds"] > 0
    said = log_lines(project, done)
    assert any(text.startswith(f"{absent.name}: MySQL has no such table; ") for text in said)
    assert any(text.startswith(f"{quiet.name}: loading existing rows: ") for text in said)
    assert any(text.startswith(f"{quiet.name}: loaded {ROWS} existing row(s) in ") for text in said)
    observed = project.instance.fetch_observations(quiet.key, limit=1).records
    assert "loaded_rows" in observed[0].event_log_entry.asset_observation.metadata  # type: ignore[union-attr]
    assert project.tick(built, sensor) == ([], "3 table(s) without a backlog")


def test_a_mirror_that_the_tail_does_not_capture_is_not_loaded_by_the_sensor(project: DagsterProject) -> None:
    create_quiet_tables(project, "quiet")
    quiet = mirror(f"{project.mysql.name}.quiet")
    built = project.definitions(quiet, start="now", exclude=[f"{project.mysql.name}.q*"])
    assert project.tail(built).success
    assert project.tick(built, f"consume_{project.source}") == ([], "1 table(s) without a backlog")
    done = project.consume(built, quiet)
    assert any(text.startswith(f"{quiet.name} is not captured by the tail of ") for text in log_lines(project, done))


def test_a_run_that_ends_before_a_table_is_loaded_does_not_materialize_it(project: DagsterProject) -> None:
    create_quiet_tables(project, "quiet")
    quiet = mirror(f"{project.mysql.name}.quiet")
    built = project.definitions(quiet, start="now")
    assert project.tail(built).success
    done = project.consume(built, quiet, max_s=1e-9)
    assert done.success
    assert done.get_asset_materialization_events() == []
    [request], _ = project.tick(built, f"consume_{project.source}")
    assert request.asset_selection == [quiet.key]
    assert project.consume(built, quiet).success
    project.assert_mirrored("quiet")
