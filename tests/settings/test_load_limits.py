"""The limits of loads in the settings: used by Dagster's mirrors and by the command, whose options win."""

from __future__ import annotations

from pathlib import Path

import pytest

from binlogsync.cli.arguments import build_parser
from binlogsync.cli.mirror import choose_limits
from binlogsync.mirror.target import Mirror
from binlogsync.mysql.config import MySQLConfig
from binlogsync.settings import Settings
from binlogsync.snapshot.throttle import LoadLimits
from dagster_binlogsync.tables import mirror

ENVIRONMENT = {"BINLOGSYNC_LOAD_ROWS_PER_SECOND": "5000", "BINLOGSYNC_LOAD_THREADS_RUNNING": "20"}
SET = LoadLimits(rows_per_s=5000.0, threads_running=20)


def test_mirrors_of_dagster_have_the_limits_of_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    orders = mirror("shop.orders")
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    target = orders.consumer.target(str(tmp_path / "warehouse.duckdb"), MySQLConfig())
    assert isinstance(target, Mirror)
    assert target.limits == SET


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ((), SET),
        (("--rows-per-second", "7.5"), LoadLimits(rows_per_s=7.5, threads_running=20)),
        (("--threads-running", "3"), LoadLimits(rows_per_s=5000.0, threads_running=3)),
        (("--rows-per-second", "0", "--threads-running", "0"), LoadLimits(rows_per_s=None, threads_running=None)),
    ],
)
def test_options_of_the_command_win_over_the_settings(
    options: tuple[str, ...], limits: LoadLimits, tmp_path: Path
) -> None:
    settings = Settings.read(tmp_path, ENVIRONMENT)
    arguments = build_parser().parse_args(["mirror", "shop.*", "--to", "warehouse.duckdb", *options])
    assert choose_limits(settings, arguments) == limits
