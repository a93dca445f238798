"""The replay target that publishes to NATS subjects `cdc.<name>.<database>.<table>`, in the stream `CDC_<NAME>`.

The stream has the format of a tail's stream and is created if it is missing, so anything that reads a source can read
the replay: consumers, and `binlogsync consume --source <name>`. As for a tail, each atomic batch carries the checkpoint
after it and is fenced: the stream itself shows which changes are stored, and two replays with one name cannot mix. The
plan is stored in the stream's key-value bucket of schemas. A later replay with the same name is appended.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec import subjects
from binlogsync.errors import ConfigError
from binlogsync.flush import Flush, TransactionRun
from binlogsync.nats.client import NatsConnection
from binlogsync.nats.key_value import KeyValueBucket
from binlogsync.nats.reader import StreamBatch
from binlogsync.position import FIRST_ORDINAL, Checkpoint
from binlogsync.replay.ranges import ReplayPlan, checkpoint_after, checkpoint_before
from binlogsync.replay.targets import ReplayState, stored_before
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink

_PLAN = "backfill"


class SubjectTarget:
    """The `ReplayTarget` that publishes under `name`, which must not be the name of a source."""

    def __init__(self, options: JetStreamOptions, name: str) -> None:
        self._replay = subjects.check_source(name)
        self.name = f"subject {subjects.all_subjects(name)}"
        self._sink = JetStreamSink(options)
        self._connection = NatsConnection(options, f"binlogsync replay {name}")
        self._notes = KeyValueBucket(self._connection, subjects.schema_bucket(name))  # the sink creates it
        self._plan: ReplayPlan | None = None
        self._begin_sequence = 0
        self._number = 0

    def begin(self, plan: ReplayPlan, stop: threading.Event) -> ReplayState:
        """See ReplayTarget. Raises ConfigError for the stream of a tail, or of another, unfinished replay."""
        if self._replay == plan.source:
            raise ConfigError(
                f"{subjects.stream_name(plan.source)} is the stream of the source itself; choose another name for the "
                "replay"
            )
        end = self._sink.open(self._replay)
        self._connection.open()
        found = self._notes.get(_PLAN)
        stored = None if found is None else json.loads(found[0])
        if stored is None and end is not None:
            raise ConfigError(
                f"stream {subjects.stream_name(self._replay)} contains messages that no replay wrote; "
                "choose another name"
            )
        if stored is not None and not stored["finished"]:
            return self._resume(ReplayPlan.from_text(stored["plan"]), int(stored["begin"]), plan, end)
        self._plan, self._begin_sequence = plan, self._sink.last_sequence
        self._save_plan(finished=False)
        return ReplayState(plan)

    def _resume(self, stored: ReplayPlan, begin: int, plan: ReplayPlan, end: Checkpoint | None) -> ReplayState:
        if not stored.is_same_request(plan):
            raise ConfigError(
                f"stream {subjects.stream_name(self._replay)} contains a part of another replay ({stored.name}: "
                f"{stored.request}); finish that one, choose another name, or remove it with: nats stream rm "
                f"{subjects.stream_name(self._replay)}, and nats kv rm {subjects.schema_bucket(self._replay)}"
            )
        self._plan, self._begin_sequence = stored, begin
        if end is None or self._sink.last_sequence <= begin:
            return ReplayState(stored)
        return ReplayState(stored, stored_before(end))

    def write(self, items: Sequence[StreamBatch], stop: threading.Event) -> None:
        """Publish the changes; returns after the last PubAck."""
        for _, group in groupby(items, lambda item: item.batch.server_uuid):
            self._number += 1
            self._sink.write(_flush(self._replay, self._number, [item.batch for item in group]))

    def finish(self) -> None:
        """Store with the plan that the replay is finished."""
        self._save_plan(finished=True)

    def close(self) -> None:
        """Close the connections."""
        self._sink.close()
        self._connection.close()

    def _save_plan(self, *, finished: bool) -> None:
        assert self._plan is not None
        record = {"plan": self._plan.to_text(), "begin": self._begin_sequence, "finished": finished}
        self._notes.put(_PLAN, json.dumps(record).encode())


def _flush(source: str, number: int, batches: Sequence[ChangeBatch]) -> Flush:
    """A flush of changes of one server, as a tail passes it to a sink."""
    batches = list(_numbered(batches))
    start, end = checkpoint_before(batches[0], 0), checkpoint_after(batches[-1])
    return Flush(source, number, "rows", tuple(batches), start, end, tuple(_runs(batches)))


def _numbered(batches: Sequence[ChangeBatch]) -> Iterator[ChangeBatch]:
    """The batches, with `seq` numbered across all of them."""
    count = 0
    for batch in batches:
        numbers = np.arange(count, count + len(batch))
        count += len(batch)
        yield batch.with_seqs(numbers)


def _runs(batches: Sequence[ChangeBatch]) -> Iterator[TransactionRun]:
    """The transactions, as one run per binlog file."""
    begins: list[tuple[str, int, bool, int]] = []
    for batch in batches:
        columns = (batch.data.column(name).to_pylist() for name in ("file", "txn_pos", "order", "seq"))
        for file, begin, order, seq in zip(*columns, strict=True):
            here = (file, begin, order >= FIRST_ORDINAL)  # rows of a snapshot come before the transaction that begins
            if not begins or begins[-1][:3] != here:
                begins.append((*here, seq))
    for file, group in groupby(begins, lambda each: each[0]):
        positions, seqs = zip(*((begin, seq) for _, begin, _, seq in group), strict=True)
        yield TransactionRun(None, 0, file, list(positions), list(seqs))
