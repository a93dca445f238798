"""`binlogsync remove` and the job of the same name: consumers and sources go, with what is stored for them."""

from contextlib import closing
from dataclasses import dataclass

import dagster as dg
import pytest

from binlogsync import Consumer
from binlogsync.cli.main import main
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.nats.source_removal import source_streams
from binlogsync.stores.sqlite import SQLitePositionStore
from dagster_binlogsync.operations.removal import RemoveConfig
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.tables import mirror
from tests.e2e.dagster_project import DagsterProject


@pytest.fixture
def orders(project: DagsterProject) -> TableAsset:
    """A mirror with two rows, and another one."""
    orders, notes = mirror(f"{project.source}.orders"), mirror(f"{project.source}.notes")
    built = project.definitions(orders, notes)
    project.mysql.execute("INSERT INTO orders (id) VALUES (1), (2)")
    project.mysql.execute("INSERT INTO notes VALUES (1, 'a')")
    project.publish()
    assert project.consume(built, orders, notes).success
    return orders


@dataclass
class Order:
    id: int


def durables(project: DagsterProject) -> set[str]:
    """The durables of the stream."""
    options = NatsOptions(url=project.environment["BINLOGSYNC_NATS_URL"])
    with StreamReader(options, project.source) as reader:
        return set(reader.pending_counts())


def streams(project: DagsterProject) -> set[str]:
    """The streams of the source that exist."""
    options = NatsOptions(url=project.environment["BINLOGSYNC_NATS_URL"])
    with NatsConnection(options, "test") as connection:
        names = connection.call(lambda client: client.jetstream().streams_info())
    return {str(found.config.name) for found in names} & set(source_streams(project.source))


def tables(project: DagsterProject) -> set[str]:
    sql = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{project.source}'"
    return {name for (name,) in project.rows(sql)}


def consume_more(project: DagsterProject, table: TableAsset, number: int) -> None:
    """Insert a row, and mirror it."""
    project.mysql.execute("INSERT INTO orders (id) VALUES (%s)", (number,))
    built = project.definitions(table)
    project.publish()
    assert project.consume(built, table).success
    project.assert_mirrored("orders")


@pytest.mark.exhaustive
def test_a_consumer_is_removed_and_can_be_added_again(
    project: DagsterProject, orders: TableAsset, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(orders.name)
    capsys.readouterr()
    assert main(["remove", name]) == 0
    assert capsys.readouterr().err == f"deleted the durable {orders.durable} of CDC_{project.source.upper()}\n"
    assert orders.durable not in durables(project)
    consume_more(project, orders, 3)
    capsys.readouterr()
    assert main(["remove", name, "--drop"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [f"deleted the mirror {name}", f"deleted the progress of {orders.consumer.progress_key}"]
    assert tables(project) == {"notes"}
    assert len(durables(project)) == 1
    assert main(["remove", name, "--drop"]) == 0
    assert capsys.readouterr().err.startswith(f"there was nothing to delete; no progress of {name} of client 'dagster'")
    consume_more(project, orders, 4)


def test_a_consumer_with_progress_in_nats_and_then_its_whole_source_are_removed(
    project: DagsterProject, orders: TableAsset, capsys: pytest.CaptureFixture[str]
) -> None:
    remove_consumer(project, orders, capsys)
    remove_source(project, capsys)
    assert tables(project) == set()
    assert not (project.folder / "tables" / f"{project.source}.json").exists()
    consume_more(project, orders, 3)


def remove_consumer(project: DagsterProject, orders: TableAsset, capsys: pytest.CaptureFixture[str]) -> None:
    """Remove a consumer with progress in NATS, and no other."""
    name, url = str(orders.name), project.environment["BINLOGSYNC_NATS_URL"]
    handled: list[str] = []

    def handle() -> None:
        consumer = Consumer("app", url=url, source=project.source)
        consumer.register(Order, lambda change: handled.append(change.id), table=name)
        consumer.run(idle_s=1.0)

    handle()
    command = ["remove", name, "--client", "app", "--drop"]
    capsys.readouterr()
    assert main([*command, "--progress", str(project.folder / "mistyped.duckdb")]) == 1
    assert "mistyped.duckdb does not exist, so it contains no progress" in capsys.readouterr().err
    handle()
    assert len(handled) == 2, "nothing was removed"
    assert main(command) == 0
    assert f"deleted the progress of {name} of client 'app' in NATS\n" in capsys.readouterr().err
    handle()
    assert handled == handled[:2] * 2
    assert orders.durable in durables(project)


def remove_source(project: DagsterProject, capsys: pytest.CaptureFixture[str]) -> None:
    """Remove the source while no tail has its lease."""
    source = project.source
    assert main(["remove", "--whole-source", "other"]) == 1
    assert "repeat its name" in capsys.readouterr().err
    with closing(SQLitePositionStore(project.folder / "positions.db")) as store:
        lease = store.leases.claim(source, "a tail", take_over=True)
        assert main(["remove", "--whole-source", source]) == 1
        assert "a tail" in capsys.readouterr().err
        store.leases.release(lease)
        assert {f"CDC_{source.upper()}", f"KV_CDC_{source.upper()}_schemas"} <= streams(project)
        assert main(["remove", "--whole-source", source, "--drop"]) == 0
        assert f"deleted the stream CDC_{source.upper()}\n" in capsys.readouterr().err
        assert streams(project) == set()
        assert store.checkpoints.load(source) is None
        assert store.checkpoints.load_facts(source) is None
        assert store.bookmarks.load(source) == []


def test_the_job_removes_only_what_the_definitions_no_longer_have(project: DagsterProject, orders: TableAsset) -> None:
    name, source = str(orders.name), project.source

    def run(built: dg.Definitions, **config: object) -> dg.ExecuteInProcessResult:
        ops = {f"remove_from_{source}": RemoveConfig.model_validate(config)}
        return built.resolve_job_def(f"remove_{source}").execute_in_process(
            instance=project.instance, run_config=dg.RunConfig(ops=ops), raise_on_error=False
        )

    assert not run(project.definitions(orders), table=name, drop=True).success
    without = project.definitions()
    assert not run(without).success
    assert not run(without, whole_source="other").success
    assert run(without, table=name, drop=True).success
    assert tables(project) == {"notes"}
    assert run(without, whole_source=source, drop=True).success
    assert (tables(project), streams(project)) == (set(), set())
