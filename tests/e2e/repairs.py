"""Repairs of mirrors beside a tail; also a process that stops in a repair: `python -m tests.e2e.repairs '{...}' STAGE`.

The stages: `reading` (the rows are being read, and nothing is stored yet), `stored` (the request is stored, and waits
for the mirror).
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from binlogsync.consume.engine import consume
from binlogsync.errors import ConsumeError
from binlogsync.mirror import repair as mirror_repair
from binlogsync.mirror.repair import Repair, Repairer
from binlogsync.mirror.target import Mirror
from binlogsync.mirror.verify import Verifier, VerifyOptions
from binlogsync.mysql import MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.targets.duckdb.file import META_SCHEMA, quote
from binlogsync.targets.duckdb.store import DuckStore
from binlogsync.targets.mirror_state import MirrorOptions
from binlogsync.targets.records import RepairRecord
from tests.e2e.loads import OPTIONS, Loads


def mirror_of(scenario: Loads, table: str, options: MirrorOptions) -> Mirror:
    """A new mirror of the table, with options."""
    return Mirror(scenario.path, scenario.database.name, table, scenario.config, options)


@contextmanager
def consuming(scenario: Loads, new_mirror: Callable[[], Mirror]) -> Iterator[None]:
    """Keep the mirror up to date in a thread. Each run ends when no change has arrived for a moment."""
    stop = threading.Event()

    def work() -> None:
        with StreamReader(NatsOptions(url=scenario.nats_url), scenario.config.source) as reader:
            while not stop.is_set():
                mirror = new_mirror()
                consume(reader, mirror.names, mirror, OPTIONS, stop)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def repair(scenario: Loads, table: str = "t", timeout_s: float = 240.0) -> Repair:
    """Repair the mirror."""
    with StreamReader(NatsOptions(url=scenario.nats_url), scenario.config.source) as reader:
        return new_repairer(reader, scenario.config, scenario.path, timeout_s).repair(scenario.database.name, table)


def new_repairer(reader: StreamReader, config: MySQLConfig, path: Path, timeout_s: float = 240.0) -> Repairer:
    """A repairer for the client of Loads."""
    options = VerifyOptions(client_id=OPTIONS.client_id, timeout_s=timeout_s)
    return Repairer(Verifier(reader, config, DuckStore(path, error=ConsumeError), options), "ann")


def damage(scenario: Loads, *statements: str, table: str = "t") -> None:
    """Change the mirror by hand, in one transaction; `{t}` is the mirror."""
    with DuckStore(scenario.path).transaction() as connection:
        for statement in statements:
            connection.execute(statement.format(t=quote(scenario.database.name, table)))


def repairs_of(scenario: Loads, table: str = "t") -> list[RepairRecord]:
    """The records of the mirror's repairs."""
    with StreamReader(NatsOptions(url=scenario.nats_url), scenario.config.source) as reader:
        verifier = new_repairer(reader, scenario.config, scenario.path).verifier
        with DuckStore(scenario.path).begin() as transaction:
            return list(transaction.load_repairs(verifier.key(scenario.database.name, table)))


def helper_tables(scenario: Loads) -> list[str]:
    """The tables of repairs that were not applied."""
    with DuckStore(scenario.path).transaction() as connection:
        found = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = ? AND starts_with(table_name, 'repair ')",
            [META_SCHEMA],
        ).fetchall()
    return [name for (name,) in found]


def stop_here(stage: str) -> None:
    """Print the stage, and wait to be killed."""
    sys.stdout.write(f"{stage}\n")
    sys.stdout.flush()
    threading.Event().wait()


class StoppingRepairer(Repairer):
    """Stops at a stage."""

    def _request(self, *arguments: Any, **options: Any) -> Any:
        request = super()._request(*arguments, **options)
        stop_here("stored")
        return request


def main(text: str, stage: str) -> None:
    """Begin to repair the mirror, print the stage when it is reached, and stop there."""
    arguments = json.loads(text)
    config = MySQLConfig(**arguments["server"], heartbeat_s=1.0)
    if stage == "reading":
        mirror_repair._read = lambda *_: stop_here(stage)  # type: ignore[assignment]  # noqa: SLF001
    with StreamReader(NatsOptions(url=arguments["nats"]), config.source) as reader:
        repairer = new_repairer(reader, config, Path(arguments["path"]))
        StoppingRepairer(repairer.verifier, repairer.who).repair(*arguments["table"])


if __name__ == "__main__":
    main(*sys.argv[1:])
