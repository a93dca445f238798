"""One repetition of the measurements with a stream: tail, mirror and handler in each format, each next to its baseline.

Streams are deleted afterwards, so that only one at a time is on the disk.
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
from binlogsync.codec import subjects
from binlogsync.mysql import MySQLConfig
from binlogsync.sinks.jetstream import JetStreamOptions

FORMATS: Mapping[str, Mapping[str, Any]] = {
    "json": {},
    "json_batched": {"changes_per_message": 1000},
    "arrow": {"format": "arrow"},
}
SINGLY = ("json_batched", "arrow")
"""Formats in which the sink also publishes single messages for changes of one table."""
MIRRORED = ("json", "arrow")
HANDLED = "arrow"
_MOST_SINGLE = 100_000
_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class StreamSetup:
    """A MySQL server whose binlog contains `changes` changes of one table, and a nats-server."""

    config: MySQLConfig
    url: str
    table: str
    changes: int

    def options(self, name: str) -> JetStreamOptions:
        """Options of the sink for one of FORMATS."""
        return JetStreamOptions(url=self.url, **FORMATS[name])


def prepare_messages(setup: StreamSetup) -> dict[str, PreparedMessages]:
    """The messages that the baselines publish; of messages with single changes only as many as fit in memory."""
    most = {"json": _MOST_SINGLE}
    return {
        name: publishing.prepare_messages(
            setup.config, setup.options(name), setup.changes, most.get(name, setup.changes)
        )
        for name in FORMATS
    }


def run(setup: StreamSetup, ready: Mapping[str, PreparedMessages]) -> Iterator[tuple[str, Measurement]]:
    """(name, measurement) of each variant, with each variant next to its baseline."""
    for name in FORMATS:
        source = f"{setup.table}{next(_NUMBERS)}"
        yield name, tail_into_jetstream(setup.config, setup.options(name), source, setup.changes)
        yield f"{name}_bare", publishing.publish_bare(setup.url, ready[name])
        if name in SINGLY:
            yield f"{name}_single", publishing.publish_singly(setup.url, ready[name])
        if name in MIRRORED:
            yield f"mirror_{name}", mirroring.measure_mirror(setup.url, source, setup.table, setup.changes)
            yield f"fetch_{name}", mirroring.measure_fetch(setup.url, source, setup.table, setup.changes)
        if name == HANDLED:
            for shape in ("change", "frame"):
                yield f"handler_{shape}", handling.measure_handler(setup.url, source, setup.table, shape)
        asyncio.run(_remove(setup.url, subjects.stream_name(source)))


async def _remove(url: str, stream: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().delete_stream(stream)
    await client.close()
