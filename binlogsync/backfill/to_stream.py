"""A backfill onto a subject of NATS: `cdc.<name>.<database>.<table>`, in the stream `CDC_<NAME>`, in the tail's format.

The stream is one like a tail's, made where it is missing, so what reads a source reads the replay: consumers, and
`binlogsync consume --source <name>`. Each atomic batch carries the place behind it and is fenced, as a tail's are: what
the stream holds is what is done, and two backfills onto one name cannot mix. The plan is in the stream's key-value
bucket of schemas. A further backfill onto the same name goes behind the first.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Any

import nats.js.errors
import numpy as np
import pyarrow as pa
from nats.aio.client import Client

from binlogsync.backfill.ranges import Plan, place_behind, place_of
from binlogsync.backfill.targets import Begun
from binlogsync.change import ChangeBatch
from binlogsync.errors import ConfigError
from binlogsync.flush import Flush, Run
from binlogsync.position import Checkpoint
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.sinks.jetstream.stream import StreamSpec, ensure_schemas
from binlogsync.stream.client import NatsConnection
from binlogsync.stream.reader import StreamBatch
from binlogsync.wire import subjects

_PLAN = "backfill"


class SubjectTarget:
    """A `BackfillTarget` onto the subjects of `name`, which is none of a source's."""

    def __init__(self, options: JetStreamOptions, name: str) -> None:
        self._replay = subjects.check_source(name)
        self.name = f"subject {subjects.all_subjects(name)}"
        self._sink = JetStreamSink(options)
        self._connection = NatsConnection(options, f"binlogsync replay {name}")
        self._shape = StreamSpec(name, options.replicas, options.max_age_s, options.max_bytes)
        self._plan: Plan | None = None
        self._begin_sequence = 0
        self._number = 0

    def begin(self, plan: Plan) -> Begun:
        """See BackfillTarget. Raises ConfigError for the stream of a tail, or of another backfill that is not done."""
        if self._replay == plan.source:
            raise ConfigError(
                f"{subjects.stream_name(plan.source)} is the stream of the tail itself; choose another name for the "
                "replay"
            )
        end = self._sink.open(self._replay)
        self._connection.open()
        kept = self._connection.retry(self._read)
        if kept is None and end is not None:
            raise ConfigError(
                f"stream {subjects.stream_name(self._replay)} holds what no backfill has written; choose another name"
            )
        if kept is not None and not kept["finished"]:
            return self._go_on(Plan.from_text(kept["plan"]), int(kept["begin"]), plan, end)
        self._plan, self._begin_sequence = plan, self._sink.last_sequence
        self._keep(finished=False)
        return Begun(plan)

    def _go_on(self, kept: Plan, begin: int, plan: Plan, end: Checkpoint | None) -> Begun:
        if not kept.is_same(plan):
            raise ConfigError(
                f"stream {subjects.stream_name(self._replay)} holds a part of another backfill ({kept.name}: "
                f"{kept.words}); finish that one, choose another name, or remove it with: nats stream rm "
                f"{subjects.stream_name(self._replay)}, and nats kv rm {subjects.schema_bucket(self._replay)}"
            )
        self._plan, self._begin_sequence = kept, begin
        return Begun(kept, end if self._sink.last_sequence > begin else None)

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Store the changes; returns when the server has acknowledged the last."""
        for _, group in groupby(items, lambda item: item.batch.server_uuid):
            self._number += 1
            self._sink.write(_flush(self._replay, self._number, [item.batch for item in group]))

    def finish(self) -> None:
        """The plan says so."""
        self._keep(finished=True)

    def close(self) -> None:
        """Let go of the connections."""
        self._sink.close()
        self._connection.close()

    def _keep(self, *, finished: bool) -> None:
        assert self._plan is not None
        record = {"plan": self._plan.to_text(), "begin": self._begin_sequence, "finished": finished}
        text = json.dumps(record).encode()

        async def put(client: Client) -> None:
            await (await ensure_schemas(client, self._shape)).put(_PLAN, text)

        self._connection.retry(put)

    async def _read(self, client: Client) -> Any:
        with suppress(nats.js.errors.NotFoundError):
            entry = await (await ensure_schemas(client, self._shape)).get(_PLAN)
            return json.loads(entry.value or b"null")
        return None


def _flush(source: str, number: int, batches: Sequence[ChangeBatch]) -> Flush:
    """Changes of one server, in order, as a tail would hand them to its sink."""
    batches = list(_numbered(batches))
    start, end = place_of(batches[0], 0), place_behind(batches[-1])
    return Flush(source, number, "rows", tuple(batches), start, end, tuple(_runs(batches)))


def _numbered(batches: Sequence[ChangeBatch]) -> Iterator[ChangeBatch]:
    """The batches with `seq` counting through all of them."""
    count = 0
    for batch in batches:
        index = batch.data.schema.get_field_index("seq")
        numbers = pa.array(np.arange(count, count + len(batch)), pa.int64())
        count += len(batch)
        yield replace(batch, data=batch.data.set_column(index, batch.data.schema.field(index), numbers))


def _runs(batches: Sequence[ChangeBatch]) -> Iterator[Run]:
    """The transactions, in runs of one file."""
    places: list[tuple[str, int, int]] = []
    for batch in batches:
        columns = (batch.data.column(name).to_pylist() for name in ("file", "txn_pos", "seq"))
        for file, begin, seq in zip(*columns, strict=True):
            if not places or places[-1][:2] != (file, begin):
                places.append((file, begin, seq))
    for file, group in groupby(places, lambda place: place[0]):
        begins, seqs = zip(*((begin, seq) for _, begin, seq in group), strict=True)
        yield Run(None, 0, file, list(begins), list(seqs))
