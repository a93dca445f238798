"""Ticks of the tail sensor with a real store and a real (ephemeral) instance."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from binlogsync.errors import StoreError
from binlogsync.stores.sqlite import SQLitePositionStore
from dagster_binlogsync.resources.positions import Positions, SQLitePositionsConfig
from dagster_binlogsync.sensors.tail import build_tail_sensor
from dagster_binlogsync.tags import SOURCE_TAG


@dg.op
def nothing() -> None: ...


@dg.job(name="tail_main", tags={SOURCE_TAG: "main"})
def tail_main() -> None:
    nothing()


SENSOR = build_tail_sensor("main")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "positions.db"


def add_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> str:
    return instance.create_run_for_job(tail_main, status=status, tags={SOURCE_TAG: "main"}).run_id


def tick(instance: dg.DagsterInstance, path: Path, watched_since: float | None = 0.0) -> tuple[list[str | None], str]:
    """(requested run keys, skip reason)."""
    positions = Positions(backend=SQLitePositionsConfig(path=str(path)))
    with dg.build_sensor_context(
        instance=instance,
        resources={"positions": positions},
        last_sensor_start_time=watched_since,
        sensor_name=SENSOR.name,
    ) as context:
        found = SENSOR.evaluate_tick(context)
    return [request.run_key for request in found.run_requests or []], found.skip_message or ""


def claim(path: Path, owner: str, age_s: float = 0.0) -> None:
    store = SQLitePositionStore(path, clock=lambda: time.time() - age_s)
    store.leases.claim("main", owner, take_over=True)
    store.close()


def test_the_first_tick_starts_the_tail(instance: dg.DagsterInstance, path: Path) -> None:
    assert tick(instance, path) == (["main:after:none"], "")


def test_a_run_that_starts_is_waited_for(instance: dg.DagsterInstance, path: Path) -> None:
    add_run(instance, dg.DagsterRunStatus.STARTING)
    keys, said = tick(instance, path)
    assert keys == []
    assert "is starting" in said


def test_a_tail_that_is_alive_is_not_restarted(instance: dg.DagsterInstance, path: Path) -> None:
    claim(path, add_run(instance, dg.DagsterRunStatus.STARTED))
    keys, said = tick(instance, path)
    assert keys == []
    assert "alive" in said


def test_a_tail_with_an_old_lease_is_failed_and_replaced(instance: dg.DagsterInstance, path: Path) -> None:
    run_id = add_run(instance, dg.DagsterRunStatus.STARTED)
    claim(path, run_id, age_s=60)
    assert tick(instance, path)[0] == [f"main:after:{run_id}"]
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.FAILURE


def test_the_end_of_a_shift_starts_the_next_one_once(instance: dg.DagsterInstance, path: Path) -> None:
    run_id = add_run(instance, dg.DagsterRunStatus.SUCCESS)
    assert tick(instance, path)[0] == tick(instance, path)[0] == [f"main:after:{run_id}"]


def test_a_dead_tail_fails_its_check_once_and_a_restarted_one_passes(instance: dg.DagsterInstance, path: Path) -> None:
    key = dg.AssetCheckKey(dg.AssetKey(["mysql", "main", "binlog"]), "tail_alive")
    sensor = build_tail_sensor("main")
    cursor: str | None = None

    def evaluated() -> list[tuple[bool | None, str]]:
        """(passed, description) of the check evaluations of a tick."""
        nonlocal cursor
        with dg.build_sensor_context(
            instance=instance,
            resources={"positions": Positions(backend=SQLitePositionsConfig(path=str(path)))},
            last_sensor_start_time=1.0,
            cursor=cursor,
        ) as context:
            found = sensor.evaluate_tick(context)
        cursor = found.cursor
        events = [event for event in found.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
        assert all(event.asset_check_key == key for event in events)
        return [(event.passed, event.description or "") for event in events]

    assert evaluated() == [], "the first run is on its way"
    run_id = add_run(instance, dg.DagsterRunStatus.STARTED)
    claim(path, run_id)
    assert [passed for passed, _ in evaluated()] == [True]
    assert evaluated() == []
    claim(path, run_id, age_s=60)
    [(passed, said)] = evaluated()
    assert not passed
    assert re.search(r"last seen [6-9]\d s ago", said)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.FAILURE
    add_run(instance, dg.DagsterRunStatus.CANCELED)
    assert evaluated() == [], "dead still"
    claim(path, add_run(instance, dg.DagsterRunStatus.STARTED))
    assert [passed for passed, _ in evaluated()] == [True]


def test_terminate_is_respected_until_the_sensor_is_switched_off_and_on(
    instance: dg.DagsterInstance, path: Path
) -> None:
    run_id = add_run(instance, dg.DagsterRunStatus.CANCELED)
    keys, said = tick(instance, path, watched_since=time.time() - 3600)
    assert keys == []
    assert "switch this sensor off and on" in said
    assert tick(instance, path, watched_since=time.time() + 3600)[0] == [f"main:after:{run_id}"]


def test_a_quick_failure_backs_off(instance: dg.DagsterInstance, path: Path) -> None:
    add_run(instance, dg.DagsterRunStatus.FAILURE)
    keys, said = tick(instance, path)
    assert keys == []
    assert "next try in" in said


def test_runs_of_another_source_do_not_count(instance: dg.DagsterInstance, path: Path) -> None:
    instance.create_run_for_job(tail_main, status=dg.DagsterRunStatus.STARTED, tags={SOURCE_TAG: "other"})
    assert tick(instance, path)[0] == ["main:after:none"]


def test_a_store_that_cannot_be_read_fails_the_tick(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    (tmp_path / "positions.db").write_text("not a database, and long enough for SQLite to see it" * 100)
    with pytest.raises(StoreError):
        tick(instance, tmp_path / "positions.db")


@pytest.mark.parametrize("running", [True, False])
def test_the_sensor_is_on_by_default_only_if_requested(running: bool) -> None:
    expected = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    assert build_tail_sensor("eu-west", running=running).default_status == expected
