"""An unknown variable is refused wherever settings are read, with a suggestion."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from binlogsync.errors import ConfigError
from binlogsync.settings import Settings
from binlogsync.variables import SETTINGS, check_variables
from resources.sources import configured_sources

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BINLOGSYNC_MYSQL_PASWORD", "BINLOGSYNC_MYSQL_PASSWORD"),
        ("BINLOGSYNC_MYSQL_USERNAME", "BINLOGSYNC_MYSQL_USER"),
        ("BINLOGSYNC_EXCLUDES", "BINLOGSYNC_EXCLUDE"),
        ("binlogsync_start", "BINLOGSYNC_START"),
        ("BINLOGSYNC_EU_MYSQL_HOTS", "BINLOGSYNC_EU_MYSQL_HOST"),
    ],
)
def test_the_nearest_name_is_suggested(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is not a setting \(did you mean {meant}\?\)"):
        check_variables([name], ["main", "eu"])


def test_all_unknown_variables_are_listed_without_values() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.read(environment={"BINLOGSYNC_QQ": "hunter2", "BINLOGSYNC_ZZ": "hunter3"})
    assert "BINLOGSYNC_QQ is not a setting; BINLOGSYNC_ZZ is not a setting" in str(caught.value)
    assert "hunter" not in str(caught.value)


def test_variables_of_settings_tests_and_private_servers_are_known() -> None:
    known = {*SETTINGS, "BINLOGSYNC_CACHE", "BINLOGSYNC_EMBEDDED", "BINLOGSYNC_TEST_SERVERS", "PATH"}
    check_variables([*known, "BINLOGSYNC_EU_WEST_MYSQL_HOST"], ["main", "eu-west"])


def test_variables_of_a_source_require_the_source() -> None:
    variables = {"BINLOGSYNC_EU_MYSQL_HOST": "db"}
    with pytest.raises(ConfigError, match="BINLOGSYNC_EU_MYSQL_HOST is not a setting"):
        Settings.read(environment=variables)
    with pytest.raises(ConfigError, match="BINLOGSYNC_EU_MYSQL_HOST is not a setting"):
        configured_sources(variables)
    assert Settings.read(environment={**variables, "BINLOGSYNC_SOURCE": "main,eu"}).mysql("eu").host == "db"
    assert len(configured_sources({**variables, "BINLOGSYNC_SOURCE": "main,eu"})) == 2


def test_the_error_contains_the_path_of_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BINLOGSYNC_INCLUDED=shop.*\n")
    with pytest.raises(ConfigError, match=r"\.env: BINLOGSYNC_INCLUDED is not a setting .*BINLOGSYNC_INCLUDE\?"):
        Settings.read(tmp_path, {})


def test_a_command_and_the_definitions_refuse_it(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGSYNC_")}
    environment = {**clean, "PYTHONPATH": str(ROOT), "BINLOGSYNC_STAT": "oldest"}
    for command in (["-m", "binlogsync.cli", "bookmarks", "list"], ["-c", "import pipelines.definitions"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "the environment: BINLOGSYNC_STAT is not a setting (did you mean BINLOGSYNC_START?)" in done.stderr


class VariableRecorder(dict[str, str]):
    """Variables that record which of them were read."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(variables)
        self.read: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.read.add(name)
        return super().get(name, default)


def test_the_example_lists_every_setting() -> None:
    lines = [line.removeprefix("#") for line in (ROOT / ".env.example").read_text().splitlines()]
    assert {line.partition("=")[0] for line in lines if line.startswith("BINLOGSYNC_")} == SETTINGS


def test_every_setting_of_programs_without_dagster_is_read() -> None:
    read: set[str] = set()
    for store in ("sqlite", "redis", "nats"):
        variables = VariableRecorder({"BINLOGSYNC_POSITIONS": store})
        settings = Settings(variables)
        settings.mysql()
        settings.jetstream()
        settings.tail()
        settings.positions().close()
        settings.audit_path()
        settings.warehouse_path()
        settings.consumers()
        read |= variables.read
    only_dagster = {f"BINLOGSYNC_{name}" for name in ("SENSORS", "SHIFT_S", "REPORT_S", "SHOW_VALUES")}
    assert read == SETTINGS - only_dagster - {"BINLOGSYNC_KERNELS"}
