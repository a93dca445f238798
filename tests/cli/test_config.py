"""`binlogsync config show`: effective values, where each was set, and no secret."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from binlogsync.cli.main import main
from binlogsync.settings.catalog import list_settings

URL = "nats://user:hunter3@h:4222"


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"BINLOGSYNC_MYSQL_PASSWORD=hunter2\n\nBINLOGSYNC_NATS_URL={URL}\n")
    (tmp_path / "binlogsync.toml").write_text('source = ["main", "eu"]\n[tail]\ninclude = ["shop.*", "a.b"]\n')
    monkeypatch.setenv("BINLOGSYNC_FLUSH_ROWS", "10")


def test_every_setting_is_printed_with_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show"]) == 0
    output = capsys.readouterr()
    assert "hunter" not in output.out + output.err
    lines = [line.split() for line in output.out.splitlines()]
    assert [line[0] for line in lines] == [setting.variable for setting in list_settings(("main", "eu"))]
    found = {line[0].removeprefix("BINLOGSYNC_"): " ".join(line[1:]) for line in lines}
    assert found["SOURCE"] == "main,eu binlogsync.toml"
    assert found["MYSQL_PASSWORD"] == "(hidden) .env, line 1"
    assert found["NATS_URL"] == "nats://(hidden)@h:4222 .env, line 3"
    assert found["INCLUDE"] == "shop.*,a.b binlogsync.toml"
    assert found["FLUSH_ROWS"] == "10 the environment"
    assert found["EU_MYSQL_PORT"] == "3306 default"
    assert found["EU_MYSQL_PASSWORD"] == "default"


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--json"]) == 0
    output = capsys.readouterr().out
    assert "hunter" not in output
    entries = {entry["key"]: entry for entry in json.loads(output)}
    assert len(entries) == len(list(list_settings(("main", "eu"))))
    assert entries["mysql.password"] | {"description": ""} == {
        "key": "mysql.password",
        "variable": "BINLOGSYNC_MYSQL_PASSWORD",
        "value": "(hidden)",
        "origin": ".env",
        "where": ".env, line 1",
        "is_secret": True,
        "allowed": "text",
        "description": "",
    }
    assert (entries["nats.token"]["value"], entries["nats.token"]["origin"]) == (None, "default")


def test_values_that_are_wrong_together_are_printed_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINLOGSYNC_MYSQL_TLS_CA_FILE", "ca.pem")
    assert main(["config", "show"]) == 1
    output = capsys.readouterr()
    assert "BINLOGSYNC_MYSQL_TLS_CA_FILE" in output.out
    assert output.err.startswith("binlogsync: BINLOGSYNC_MYSQL_TLS: TLS files are given")


def test_the_kernels_of_a_command_are_chosen_in_dotenv_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_KERNELS", "")
    Path(".env").write_text("BINLOGSYNC_KERNELS=public\n")
    assert main(["config", "show"]) == 0
    assert os.environ["BINLOGSYNC_KERNELS"] == "public"
