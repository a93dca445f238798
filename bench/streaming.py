"""One repetition of everything behind the decoder: the tail into JetStream in each format, the bare loop beside it, and
the mirror beside a bare fetch. Streams are removed again, so that the disk holds one at a time.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import nats

from bench import handling, mirroring, publishing
from bench.publishing import PreparedMessages
from bench.readers import Measurement, tail_into_jetstream
from binlogsync.mysql import MySQLConfig
from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.wire import subjects

FORMATS: Mapping[str, Mapping[str, Any]] = {
    "json": {},
    "json_batched": {"changes_per_message": 1000},
    "arrow": {"format": "arrow"},
}
SINGLY = ("json_batched", "arrow")
"""Formats whose messages the sink, too, sends by themselves where changes are of one table."""
MIRRORED = ("json", "arrow")
HANDLED = "arrow"
_MOST_SINGLE = 100_000
_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class StreamSetup:
    """Where changes come from and go to: a MySQL whose binlog holds `changes` of one table, and a nats-server."""

    config: MySQLConfig
    url: str
    table: str
    changes: int

    def options(self, name: str) -> JetStreamOptions:
        """Of one of FORMATS."""
        return JetStreamOptions(url=self.url, **FORMATS[name])


def prepare_messages(ends: StreamSetup) -> dict[str, PreparedMessages]:
    """What the bare loops publish: the same messages, of single changes only so many as fit in memory."""
    most = {"json": _MOST_SINGLE}
    return {
        name: publishing.prepare_messages(ends.config, ends.options(name), ends.changes, most.get(name, ends.changes))
        for name in FORMATS
    }


def run(ends: StreamSetup, ready: Mapping[str, PreparedMessages]) -> Iterator[tuple[str, Measurement]]:
    """(name, reading) of each way, those that are compared next to each other."""
    for name in FORMATS:
        source = f"{ends.table}{next(_NUMBERS)}"
        yield name, tail_into_jetstream(ends.config, ends.options(name), source, ends.changes)
        yield f"{name}_bare", publishing.publish_bare(ends.url, ready[name])
        if name in SINGLY:
            yield f"{name}_single", publishing.publish_singly(ends.url, ready[name])
        if name in MIRRORED:
            yield f"mirror_{name}", mirroring.mirror(ends.url, source, ends.table, ends.changes)
            yield f"fetch_{name}", mirroring.fetch_bare(ends.url, source, ends.table, ends.changes)
        if name == HANDLED:
            for shape in ("change", "frame"):
                yield f"handler_{shape}", handling.handle(ends.url, source, ends.table, shape)
        asyncio.run(_remove(ends.url, subjects.stream_name(source)))


async def _remove(url: str, stream: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().delete_stream(stream)
    await client.close()
