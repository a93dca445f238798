"""A row of `--mib` MiB from MySQL through the stream into a mirror and to a handler, in seconds.

`python -m tests.e2e.large_row --mib 20 200` prints one line of JSON per size; it starts private servers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from binlogsync import Change, Consumer, servers
from binlogsync.servers import MySQLServer, NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import fresh_database
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, mirror, options_of, stream_sink

_TIMEOUT_S = 600.0


@dataclass
class LargeDocument:
    """The model of the table."""

    id: int
    body: str


def send(mysql: MySQLServer, nats: NATSServer, size: int, folder: Path) -> dict[str, float]:
    """Seconds of each step for a row with a text of `size` bytes. Raises AssertionError for a row that differs."""
    source, seconds = f"large{size}", {}
    with fresh_database(mysql) as database:
        database.execute("CREATE TABLE docs (id INT PRIMARY KEY, body LONGTEXT NOT NULL)")
        tail = TailThread(
            config_of(mysql, source), [stream_sink(nats.url)], MemoryPositionStore(), options_of(source, database.name)
        )
        with tail:
            tail.wait_begun(_TIMEOUT_S)
            database.execute(f"INSERT INTO docs VALUES (1, REPEAT('0123456789abcde\\n', {size // 16}))")
            began = time.monotonic()
            tail.wait_stored(1, _TIMEOUT_S)
            seconds["stream_s"] = time.monotonic() - began
        began = time.monotonic()
        mirror(nats.url, source, folder / f"{source}.duckdb", (database.name, "docs"))
        seconds["mirror_s"] = time.monotonic() - began
        began = time.monotonic()
        lengths: list[int] = []
        consumer = Consumer("large", url=nats.url, source=source)

        def handle(change: Change[LargeDocument]) -> None:
            assert change.after is not None
            lengths.append(len(change.after.body))

        consumer.register(LargeDocument, handle, table=f"{database.name}.docs")
        consumer.run(idle_s=0.5)
        seconds["handler_s"] = time.monotonic() - began
        expected = database.execute("SELECT LENGTH(body), SHA2(body, 256) FROM docs")[0]
        found = query(folder / f"{source}.duckdb", f'SELECT length(body), sha256(body) FROM "{database.name}".docs')
        assert [*map(tuple, found)] == [tuple(expected)]
        assert lengths == [expected[0]]
    return {name: round(value, 2) for name, value in seconds.items()}


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, nargs="+", default=[20, 200])
    with servers.mysql() as mysql, servers.nats() as nats, tempfile.TemporaryDirectory() as folder:
        for mib in parser.parse_args().mib:
            sys.stdout.write(json.dumps({"mib": mib, **send(mysql, nats, mib << 20, Path(folder))}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
