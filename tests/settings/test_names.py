"""An unknown name is refused wherever settings are read, with a suggestion; those of other programs are ignored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from binlogsync.errors import ConfigError
from binlogsync.settings import Settings
from binlogsync.settings.catalog import list_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BINLOGSYNC_MYSQL_PASWORD", "BINLOGSYNC_MYSQL_PASSWORD"),
        ("BINLOGSYNC_MYSQL_USERNAME", "BINLOGSYNC_MYSQL_USER"),
        ("BINLOGSYNC_EXCLUDES", "BINLOGSYNC_EXCLUDE"),
        ("binlogsync_start", "BINLOGSYNC_START"),
        ("BINLOGSYNC_EU_MYSQL_HOTS", "BINLOGSYNC_EU_MYSQL_HOST"),
        # The first source has no name in its variables.
        ("BINLOGSYNC_MAIN_MYSQL_HOST", "BINLOGSYNC_MYSQL_HOST"),
    ],
)
def test_the_nearest_variable_is_suggested(name: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BINLOGSYNC_SOURCE=main,eu")
    with pytest.raises(ConfigError, match=rf"^the environment: {name} is not a setting \(did you mean {meant}\?\)"):
        Settings.read(tmp_path, {name: "hunter2"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("flush_rows = 1", r"flush_rows is not a setting \(did you mean tail.flush_rows\?\)"),
        ("[tail]\nflush_row = 1", r"tail.flush_row is not a setting \(did you mean tail.flush_rows\?\)"),
        ("[tial]\nflush_rows = 1", r"tial is not a setting \(did you mean tail\?\)"),
        ("tail = 1", r"tail is a table; write \[tail\]"),
        ("[sources.eu.mysql]\nhost = 'db'", "sources is not a setting.* must be named in BINLOGSYNC_SOURCE"),
        ("kernels = 'public'", "kernels is read before this file; set BINLOGSYNC_KERNELS instead"),
    ],
)
def test_the_nearest_key_is_suggested(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "binlogsync.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"binlogsync\.toml: {problem}"):
        Settings.read(tmp_path, {})


def test_all_unknown_variables_are_listed_without_values(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("\nBINLOGSYNC_INCLUDED=hunter4\n")
    with pytest.raises(ConfigError) as caught:
        Settings.read(tmp_path, {"BINLOGSYNC_QQ": "hunter2", "BINLOGSYNC_ZZ": "hunter3"})
    for problem in (
        "the environment: BINLOGSYNC_QQ is not a setting; the environment: BINLOGSYNC_ZZ is not a setting",
        ".env, line 2: BINLOGSYNC_INCLUDED is not a setting (did you mean BINLOGSYNC_INCLUDE?)",
    ):
        assert problem in str(caught.value)
    assert "hunter" not in str(caught.value)


def test_variables_of_settings_tests_and_private_servers_are_known(tmp_path: Path) -> None:
    known = [setting.variable for setting in list_settings(("main", "eu-west"))]
    assert "BINLOGSYNC_EU_WEST_MYSQL_HOST" in known
    other = ["BINLOGSYNC_CACHE", "BINLOGSYNC_EMBEDDED", "BINLOGSYNC_TEST_SERVERS", "PATH", "MYSQL_HOST"]
    settings = Settings.read(tmp_path, dict.fromkeys([*known, *other], "") | {"BINLOGSYNC_SOURCE": "main,eu-west"})
    assert list(settings.origins) == [("source",)]


def test_variables_of_a_source_require_the_source(tmp_path: Path) -> None:
    variables = {"BINLOGSYNC_EU_MYSQL_HOST": "db"}
    with pytest.raises(ConfigError, match="BINLOGSYNC_EU_MYSQL_HOST is not a setting"):
        Settings.read(tmp_path, variables)
    assert Settings.read(tmp_path, {**variables, "BINLOGSYNC_SOURCE": "main,eu"}).mysql("eu").host == "db"


@pytest.mark.slow
def test_a_command_and_the_definitions_refuse_it(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGSYNC_")}
    environment = {**clean, "PYTHONPATH": str(ROOT), "BINLOGSYNC_STAT": "oldest"}
    for command in (["-m", "binlogsync.cli", "bookmarks", "list"], ["-c", "import pipelines.definitions"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "the environment: BINLOGSYNC_STAT is not a setting (did you mean BINLOGSYNC_START?)" in done.stderr
