"""The example of the Go tool: before and after of each change, in Dagster and in any program."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from binlogsync import Change, Consumer
from dagster_binlogsync.tables import table_consumer
from tests.e2e.dagster_project import DagsterProject


@dataclass(frozen=True)
class TreeHole:
    """The model of the example."""

    id: int
    user_id: int
    content: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


def print_hole(change: Change[TreeHole]) -> None:
    """Print before and after."""
    print(change.op, change.before, "->", change.after)  # noqa: T201


def test_holes_print_before_and_after_in_dagster_and_outside(
    project: DagsterProject, capsys: pytest.CaptureFixture[str]
) -> None:
    project.mysql.execute(
        "CREATE TABLE holes (id INT UNSIGNED PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, content TEXT, "
        "created_at TIMESTAMP(6) NOT NULL, updated_at DATETIME NOT NULL, deleted_at DATETIME)"
    )
    project.mysql.execute("SET time_zone = '+02:00'")
    project.mysql.execute(
        "INSERT INTO holes VALUES (1, 42, 'Found a coin.', '2026-01-02 05:04:05.5', '2026-01-02 03:04:05', NULL)"
    )
    project.mysql.execute("UPDATE holes SET content = NULL, deleted_at = '2026-02-03 04:05:06' WHERE id = 1")
    project.mysql.execute("DELETE FROM holes")
    table = f"{project.source}.holes"
    holes = table_consumer(TreeHole, print_hole, table=table)
    built = project.definitions(holes)
    assert project.tail(built).success
    capsys.readouterr()
    assert project.consume(built, holes).success
    inside = [line for line in capsys.readouterr().out.splitlines() if "->" in line]

    consumer = Consumer("client1", url=project.environment["BINLOGSYNC_NATS_URL"], source=project.source)
    consumer.register(TreeHole, print_hole, table=table)
    consumer.run(idle_s=0.2)
    outside = [line for line in capsys.readouterr().out.splitlines() if "->" in line]

    created = datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=ZoneInfo("UTC"))
    first = TreeHole(1, 42, "Found a coin.", created, datetime(2026, 1, 2, 3, 4, 5), None)
    second = TreeHole(1, 42, None, created, datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 2, 3, 4, 5, 6))
    assert inside == outside == [f"c None -> {first}", f"u {first} -> {second}", f"d {second} -> None"]
