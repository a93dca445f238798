"""Where settings are read from: the environment, `.env` as Dagster reads it, and binlogsync.toml; the first wins."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster._core.secrets.env_file import get_env_var_dict

from binlogsync.errors import ConfigError
from binlogsync.settings import Settings
from binlogsync.settings.layers import read_dotenv

OURS = "BINLOGSYNC_"
DOTENV = r"""
# a comment
export BINLOGSYNC_A=1
  BINLOGSYNC_B = two words   # not part of it
BINLOGSYNC_C="quoted # is part" # comment
BINLOGSYNC_D='single \' and \\ and \n'
BINLOGSYNC_E="a \"b\"\nc \\ d"
BINLOGSYNC_F=
BINLOGSYNC_G=no#comment
BINLOGSYNC_H=last
BINLOGSYNC_H=wins
BINLOGSYNC_I=a=b
BINLOGSYNC_J="several
lines"
OTHER=other
ALONE
BINLOGSYNC_K='${OTHER} ${BINLOGSYNC_A}${NOT_SET:-default}${FROM_ENVIRONMENT}'
"""


def test_dotenv_means_what_it_means_to_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_ENVIRONMENT", "!")
    (tmp_path / ".env").write_text(DOTENV)
    found = read_dotenv(tmp_path / ".env", {"FROM_ENVIRONMENT": "!"}).assignments
    values = {name: assignment.value for name, assignment in found.items()}
    dagster = get_env_var_dict(str(tmp_path))
    assert values == {name: value for name, value in dagster.items() if name.startswith(OURS)}
    assert (values[f"{OURS}J"], values[f"{OURS}K"]) == ("several\nlines", "other 1default!")
    assert found[f"{OURS}H"].where == f"{tmp_path}/.env, line 11"
    assert found[f"{OURS}K"].where == f"{tmp_path}/.env, line 17"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("no equals hunter2", "neither NAME=value nor a comment"),
        ("A='hunter2", "neither NAME=value nor a comment"),
        ('A="a" hunter2', "neither NAME=value nor a comment"),
        ("BINLOGSYNC_MYSQL_PASSWORD", "BINLOGSYNC_MYSQL_PASSWORD has no value"),
        ("BINLOGSYNC_MYSQL_PASSWORD='hunter${2}'", "refers to a variable that is not set"),
    ],
)
def test_what_dagster_would_silently_ignore_is_an_error_without_its_value(
    line: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"X=1\n\n{line}\n")
    with pytest.raises(ConfigError, match=rf"\.env, line 3: .*{problem}") as caught:
        Settings.read(tmp_path, {})
    assert "hunter" not in str(caught.value)


def test_lines_of_other_programs_are_ignored(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("1A=x\nOTHER=${NOT_SET}\nALONE\n")
    assert Settings.read(tmp_path, {}).origins == {}


def test_the_first_place_wins(tmp_path: Path) -> None:
    (tmp_path / "binlogsync.toml").write_text(
        '[mysql]\nhost = "toml"\nuser = "toml"\nport = 1\n[nats]\nuser = "toml"\n'
    )
    (tmp_path / ".env").write_text("BINLOGSYNC_MYSQL_HOST=file\nBINLOGSYNC_MYSQL_USER=file\nBINLOGSYNC_NATS_USER=\n")
    settings = Settings.read(tmp_path, {"BINLOGSYNC_MYSQL_HOST": "real", "BINLOGSYNC_MYSQL_USER": ""})
    mysql = settings.values.mysql
    assert (mysql.host, mysql.user, mysql.port, settings.values.nats.user) == ("real", "file", 1, "toml")
    assert {".".join(path): found.where for path, found in settings.origins.items()} == {
        "mysql.host": "the environment",
        "mysql.user": f"{tmp_path}/.env, line 2",
        "mysql.port": f"{tmp_path}/binlogsync.toml",
        "nats.user": f"{tmp_path}/binlogsync.toml",
    }


def test_toml_has_lists_numbers_and_times(tmp_path: Path) -> None:
    (tmp_path / "binlogsync.toml").write_text(
        'source = ["main", "eu-west"]\n[sources.eu-west.mysql]\nhost = "there"\n[redis]\ntls = true\n'
        '[tail]\ninclude = ["shop.*", "`a,b`.c"]\nexclude = "a.b, c.d"\nstart = 2026-01-02T03:04:05Z\n'
        "flush_interval_s = 2\n[dagster]\nsensors = true\n"
    )
    settings = Settings.read(tmp_path, {"BINLOGSYNC_EU_WEST_MYSQL_PORT": "3307"})
    assert (settings.mysql("eu-west").host, settings.mysql("eu-west").port) == ("there", 3307)
    tail = settings.tail()
    assert (tail.include, tail.exclude) == (("shop.*", "`a,b`.c"), ("a.b", "c.d"))
    assert (tail.start, tail.flush_interval_s) == ("2026-01-02T03:04:05+00:00", 2)
    assert settings.values.redis.tls
    assert settings.values.dagster.sensors


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[mysql\n", "is not valid TOML"),
        ("[mysql]\nport = true", r"mysql.port=True \(.*binlogsync.toml\): allowed: whole number, 1 to 65535"),
        ("[mysql]\npassword = 4711", r"mysql.password \(.*binlogsync.toml\): allowed: text$"),
        ('[tail]\ninclude = ["shop"]', "tail.include=.'shop'. .*'shop' is not a table pattern"),
        ("source = 3", "source=3 .*: allowed: names"),
    ],
)
def test_wrong_toml_is_named(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "binlogsync.toml").write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        Settings.read(tmp_path, {})
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("name", [".env", "binlogsync.toml"])
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"hunter2\xff")
    with pytest.raises(ConfigError, match=f"{name} cannot be read: it is not UTF-8") as caught:
        Settings.read(tmp_path, {})
    assert "hunter" not in str(caught.value)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=f"{name} cannot be read: Is a directory"):
        Settings.read(tmp_path, {})
