"""When the continuous run is ended after a reload; and that consumers on a backlog have no continuous run."""

from __future__ import annotations

import pytest

from binlogsync.settings import Settings
from dagster_binlogsync.discovery import ConsumerDefinitions
from dagster_binlogsync.keys import continuous_job_name, continuous_sensor_name
from dagster_binlogsync.options import build_tail_config
from dagster_binlogsync.sensors.continuous import is_outdated
from dagster_binlogsync.tables import mirror
from pipelines.definitions import build_deployment


@pytest.mark.parametrize(
    ("run_load", "run_started", "is_old"),
    [
        ("same", 50.0, False),
        ("same", 150.0, False),
        ("other", 50.0, True),
        ("other", 150.0, False),  # requested by another code server, after this one was loaded
        (None, 50.0, True),  # launched by a user, before the reload
        (None, 150.0, False),
    ],
)
def test_a_run_of_an_earlier_load_is_outdated(run_load: str | None, run_started: float, is_old: bool) -> None:
    assert is_outdated(run_load, run_started, "same", 100.0) is is_old


@pytest.mark.parametrize("value", ["on_backlog", "continuous"])
def test_the_setting_selects_the_sensor(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_CONSUME", value)
    settings = Settings.read()
    consumers = ConsumerDefinitions((mirror("shop.orders", source="main"),), (), ())
    built = build_deployment(settings, consumers, build_tail_config(settings), running=False)
    names = {each.name for each in built.sensors or ()}
    is_continuous = value == "continuous"
    assert ("consume_main" in names, continuous_sensor_name("main") in names) == (not is_continuous, is_continuous)
    jobs = {job.name for job in built.resolve_all_job_defs()}
    assert (continuous_job_name("main") in jobs) is is_continuous
    assert "consume_main" in jobs
