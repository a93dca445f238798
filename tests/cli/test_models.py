"""`binlogsync models` and `binlogsync skip` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from binlogsync import Change, Consumer, HandlerError, Retry
from binlogsync.cli.main import main
from binlogsync.models.model import Model
from binlogsync.mysql import MySQLConfig, declaration_reader
from binlogsync.servers import NATSServer
from tests.cli_deployment import Deployment
from tests.cli_here import run_here, tailing_here
from tests.databases import FreshDatabase
from tests.duck import query
from tests.models.test_model_code import load
from tests.nats_commands import delete_stream


@pytest.fixture
def deployment(tmp_path: Path, mysql: FreshDatabase, nats_server: NATSServer) -> Deployment:
    mysql.execute(
        "CREATE TABLE holes (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, content TEXT, likes INT NOT NULL, "
        "mood ENUM('good', 'bad') NOT NULL, tags SET('a', 'b'), price DECIMAL(10,2), at TIMESTAMP(3) NULL, extra JSON)"
    )
    return Deployment(tmp_path, mysql, nats_server)


@pytest.mark.parametrize("kind", ["dataclass", "msgspec", "pydantic"])
def test_the_model_of_a_live_table_fits_it(
    deployment: Deployment, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{deployment.mysql.name}.holes"
    deployment.command()  # writes the settings
    monkeypatch.chdir(deployment.folder)
    assert main(["models", name, "--kind", kind]) == 0
    model: Model[Any] = Model(load(capsys.readouterr().out))
    server = deployment.mysql.server
    found = declaration_reader(MySQLConfig(server.host, server.port, server.cdc_user, server.cdc_password))(
        *name.split(".")
    )
    assert found is not None
    model.check(found.schema)
    assert model.table == name
    assert [field.name for field in model.fields] == [column.name for column in found.schema.columns]


def test_a_missing_table(deployment: Deployment) -> None:
    done = run_here(deployment, "models", f"{deployment.mysql.name}.nothing")
    assert done.returncode == 1
    assert "MySQL has no table" in done.stderr


@pytest.mark.slow
def test_model_from_the_stream_without_mysql_and_a_skip(deployment: Deployment) -> None:
    name, mysql = f"{deployment.mysql.name}.holes", deployment.mysql
    mysql.execute("INSERT INTO holes (content, likes, mood) VALUES ('a', 1, 'good'), ('b', 2, 'bad'), ('c', 3, 'bad')")
    with tailing_here(deployment) as tail:
        tail.wait_stored(3)
    lines = run_here(deployment, "consume", name, "--limit", "3").stdout.splitlines()
    ids = [json.loads(line)["source"]["gtid"] for line in lines]
    deployment.settings["MYSQL_PORT"] = "1"
    done = run_here(deployment, "models", name)
    assert (done.returncode, "reading the stream instead" in done.stderr) == (0, True), done.stderr
    made = load(done.stdout)

    handled: list[int] = []

    def on_hole(change: Change[Any]) -> None:
        assert change.after is not None
        if change.after.likes == 2:
            raise ValueError("not this one")
        handled.append(change.after.likes)

    consumer = Consumer(
        "client1", url=deployment.nats.url, source=deployment.source, retry=Retry(tries=1), progress=None
    )
    consumer.register(made, on_hole)
    with pytest.raises(HandlerError):
        consumer.run(idle_s=0.2)
    deployment.settings["AUDIT_PATH"] = "audit.duckdb"
    options = ("--client", "client1", "--reason", "a test row", "--by", "Ada")
    wrong = run_here(deployment, "skip", name, f"{ids[0]}:0", *options)
    assert (wrong.returncode, "the next change is not" in wrong.stderr) == (1, True)
    done = run_here(deployment, "skip", name, f"{ids[0]}:1", *options)
    assert done.returncode == 0, done.stderr
    consumer.run(idle_s=0.2)
    assert handled == [1, 3]
    assert query(deployment.folder / "audit.duckdb", "SELECT reason, skipped_by FROM skips") == [("a test row", "Ada")]
    delete_stream(deployment.nats.url, deployment.stream)
