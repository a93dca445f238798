"""The stream of a source: created if missing, otherwise checked; and its end, which has the checkpoint."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    Header,
    KeyValueConfig,
    ObjectStoreConfig,
    RawStreamMsg,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.kv import KeyValue

from binlogsync.codec import subjects
from binlogsync.codec.envelope import CHECKPOINT, WRITE_ID
from binlogsync.codec.tail_messages import MOST_WITHOUT_CHECKPOINT, is_tail_message, tail_checkpoint
from binlogsync.errors import PositionError, SinkError
from binlogsync.nats.buckets import create_key_value
from binlogsync.nats.jetstream_error_codes import JS_NO_MESSAGE_FOUND_ERR
from binlogsync.position import Checkpoint

log = logging.getLogger(__name__)
_DUPLICATE_WINDOW_S = 120.0
_PARTIAL_AFTER_S = 1.0
_MOST_CONSUMERS = 100_000
"""The default of nats-server is 1,000; each client needs a durable for each table."""
_LONGER_S = 3600.0


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """Required configuration of a source's stream; replicas, age and size apply only at its creation."""

    source: str
    replicas: int
    max_age_s: float
    max_bytes: int | None

    def config(self) -> StreamConfig:
        """The configuration to create it with."""
        age = self.max_age_s
        return StreamConfig(
            name=subjects.stream_name(self.source),
            description=f"row changes of the source {self.source}, written by binlogsync",
            subjects=[subjects.all_subjects(self.source)],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            num_replicas=self.replicas,
            max_age=age,
            max_bytes=self.max_bytes if self.max_bytes is not None else -1,
            duplicate_window=min(_DUPLICATE_WINDOW_S, age) if age else _DUPLICATE_WINDOW_S,
            allow_direct=True,
            allow_atomic=True,
            max_consumers=_MOST_CONSUMERS,
        )


UNPROVEN = (
    "so it is unknown which changes are stored. Inspect it with: nats stream view {stream}. Then restore the stream "
    "from a backup; or, if its messages are not needed, empty it with: nats stream purge {stream}, and restart the "
    "tail: it starts at the checkpoint of the position store or, without one, at BINLOGSYNC_START"
)


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a stream.

    Attributes:
        sequence: sequence of the last message that ever existed; 0 if there was none.
        checkpoint: checkpoint text in the last message of a tail; None without such a message or text.
        write_id: write id in that message, or None.
        is_empty: True when the stream has no message now.
        batch_id: id of the atomic batch of that message, or None.
        own: sequence of that message; 0 if there is none.
        foreign: sequences of the messages after it, which were published by other programs.
        partial: number of messages deleted because the server had stored only a part of their atomic batch.
    """

    sequence: int
    checkpoint: str | None = None
    write_id: str | None = None
    is_empty: bool = True
    batch_id: str | None = None
    own: int = 0
    foreign: tuple[int, ...] = ()
    partial: int = 0

    @property
    def is_partial_batch(self) -> bool:
        """True when the last message belongs to an atomic batch of a tail that is incomplete."""
        return not self.is_empty and self.checkpoint is None and self.batch_id is not None

    def require_checkpoint(self, stream: str) -> Checkpoint | None:
        """The checkpoint, None when the stream is empty; raises PositionError when no message has a valid one."""
        if self.is_empty:
            return None
        if self.checkpoint is None:
            raise PositionError(
                f"stream {stream} is not empty (its last message is sequence {self.sequence}), and no message in it "
                f"carries a checkpoint that its tail has stored there: {UNPROVEN.format(stream=stream)}"
            )
        return Checkpoint.from_text(self.checkpoint)


async def ensure_stream(client: Client, shape: StreamSpec) -> int:
    """Create the stream, or check the existing one; returns its number of replicas.

    Raises SinkError with the settings that are wrong.
    """
    js, wanted = client.jetstream(), shape.config()
    assert wanted.name is not None
    try:
        info = await js.stream_info(wanted.name)
    except nats.js.errors.NotFoundError:
        await js.add_stream(wanted)
        log.info("stream %s created", wanted.name)
        return shape.replicas
    check_config(info.config, shape)
    return info.config.num_replicas or 1


def check_config(found: StreamConfig, shape: StreamSpec) -> None:
    """Raise SinkError with each setting of the stream that would cause a loss of changes."""
    wrong = _differences(found, shape.config())
    if wrong:
        raise SinkError(
            f"stream {subjects.stream_name(shape.source)} cannot store the changes of source {shape.source}: "
            + "; ".join(wrong)
        )


def _differences(found: StreamConfig, wanted: StreamConfig) -> list[str]:
    name = wanted.name
    recreate = f"it cannot be changed: recreate the stream after nats stream rm {name}, or choose another source name"
    edit = f"change it with: nats stream edit {name}"
    checks: list[tuple[str, object, object, str]] = [
        (
            "subjects",
            found.subjects,
            wanted.subjects,
            f"{edit} --subjects '{wanted.subjects[0] if wanted.subjects else ''}'",
        ),
        ("storage", str(found.storage), "file", recreate),
        ("retention", str(found.retention), "limits", recreate),
        ("allow_atomic", bool(found.allow_atomic), True, f"{edit} --allow-batch"),
        ("allow_direct", bool(found.allow_direct), True, f"{edit} --allow-direct"),
        ("no_ack", bool(found.no_ack), False, f"{edit} --ack"),
        ("sealed", bool(found.sealed), False, recreate),
        ("mirror", found.mirror is not None, False, recreate),
        ("sources", bool(found.sources), False, edit),
        ("subject_transform", found.subject_transform is not None, False, edit),
        ("max_msgs_per_subject", _unlimited(found.max_msgs_per_subject), -1, f"{edit} --max-msgs-per-subject=-1"),
        ("max_msg_size", _unlimited(found.max_msg_size), -1, f"{edit} --max-msg-size=-1"),
    ]
    return [f"{what} is {got} and must be {must} ({how})" for what, got, must, how in checks if got != must]


def _unlimited(value: int | None) -> int:
    return value or -1


async def stream_end(client: Client, source: str) -> StreamEnd:
    """The end according to the stream's leader; its sequence includes messages that were deleted from the end."""
    js, stream = client.jetstream(), subjects.stream_name(source)
    state = (await js.stream_info(stream)).state
    while True:
        last = await _last_message(js, source)
        again = (await js.stream_info(stream)).state
        if again.last_seq == state.last_seq:
            break
        state = again
    if last is None:
        return StreamEnd(state.last_seq)
    foreign: list[int] = []
    while last is not None and not _may_end(last):
        foreign.append(last.seq or 0)
        last = await _message_before(js, source, last.seq or 0, state.first_seq)
    if last is not None and (proven := await _proven_before(js, source, last, state.first_seq)) is not None:
        foreign += range(last.seq or 0, proven.seq or 0, -1)
        last = proven
    headers = (last.headers if last is not None else None) or {}
    return StreamEnd(
        state.last_seq,
        headers.get(CHECKPOINT),
        headers.get(WRITE_ID),
        False,
        headers.get(Header.BATCH_ID),
        (last.seq or 0) if last is not None else 0,
        tuple(reversed(foreign)),
    )


async def _proven_before(js: JetStreamContext, source: str, last: RawStreamMsg, first: int) -> RawStreamMsg | None:
    """If the checkpoint of `last` does not contain its sequence: the last earlier message whose checkpoint does,
    because then `last` is a copy of a message of an older version. None if there is none.
    """
    sequence = last.seq or 0
    checkpoint = tail_checkpoint(last.headers or {}, sequence)
    if checkpoint is None or checkpoint.sequence is not None:
        return None
    for _ in range(MOST_WITHOUT_CHECKPOINT):
        message = await _message_before(js, source, sequence, first)
        if message is None:
            return None
        sequence = message.seq or 0
        checkpoint = tail_checkpoint(message.headers or {}, sequence)
        if checkpoint is not None and checkpoint.sequence is not None:
            return message
    return None


def _may_end(message: RawStreamMsg) -> bool:
    """True for a message of the tail: one with a valid checkpoint, or one of an incomplete batch."""
    headers, sequence = message.headers or {}, message.seq or 0
    if CHECKPOINT in headers:
        return tail_checkpoint(headers, sequence) is not None
    return is_tail_message(headers, sequence)


async def _message_before(js: JetStreamContext, source: str, sequence: int, first: int) -> RawStreamMsg | None:
    """The message before that sequence; None when there is none."""
    stream = subjects.stream_name(source)
    for number in range(sequence - 1, max(first, 1) - 1, -1):
        try:
            return await js.get_msg(stream, number)
        except nats.js.errors.NotFoundError as error:
            if error.err_code != JS_NO_MESSAGE_FOUND_ERR:
                raise
    return None


async def repaired_end(client: Client, source: str) -> StreamEnd:
    """The end, after the messages of an incomplete batch were deleted.

    nats-server stores an atomic batch completely or not at all, except when it runs out of storage: then it keeps the
    first messages and sends no reply. They are deleted, so that the stream ends at a checkpoint again.
    """
    end = await stream_end(client, source)
    while end.is_partial_batch:
        await asyncio.sleep(_PARTIAL_AFTER_S)  # a batch that another writer is storing right now looks the same
        before, end = end, await stream_end(client, source)
        if before == end:
            removed = await _remove_batch(client.jetstream(), source, end)
            log.error(
                "stream %s: the server stored only %d messages of an atomic batch; deleted them",
                source,
                removed,
            )
            return replace(await stream_end(client, source), partial=removed)
    return end


async def _remove_batch(js: JetStreamContext, source: str, end: StreamEnd) -> int:
    removed = 0
    message = await _message_before(js, source, end.own + 1, end.own)
    while message is not None and message.seq is not None:
        headers = message.headers or {}
        if headers.get(Header.BATCH_ID) != end.batch_id or CHECKPOINT in headers:
            break
        await js.delete_msg(subjects.stream_name(source), message.seq)
        removed += 1
        message = await _message_before(js, source, message.seq, 1)
    return removed


async def _last_message(js: JetStreamContext, source: str) -> RawStreamMsg | None:
    try:
        return await js.get_last_msg(subjects.stream_name(source), subjects.all_subjects(source))
    except nats.js.errors.NotFoundError as error:
        if error.err_code != JS_NO_MESSAGE_FOUND_ERR:
            raise
        return None


async def ensure_schemas(client: Client, shape: StreamSpec) -> KeyValue:
    """The key-value bucket of the source's table schemas."""
    js, bucket = client.jetstream(), subjects.schema_bucket(shape.source)
    try:
        return await js.key_value(bucket)
    except nats.js.errors.NotFoundError:
        config = KeyValueConfig(bucket, history=1, storage=StorageType.FILE, replicas=shape.replicas)
        return await create_key_value(js, config)


async def ensure_large(client: Client, shape: StreamSpec) -> str:
    """Name of the object store bucket for bodies that are too large for a message; created if missing.

    It retains objects longer than the stream retains messages, because each is stored before its message.
    """
    ttl = shape.max_age_s + _LONGER_S if shape.max_age_s else None
    return await _ensure_objects(client, shape, subjects.large_bucket(shape.source), ttl)


async def ensure_large_schemas(client: Client, shape: StreamSpec) -> str:
    """Name of the object store bucket for table schemas too large for the key-value bucket; created if missing.

    Like that bucket, it retains them without limit.
    """
    return await _ensure_objects(client, shape, subjects.schema_bucket(shape.source), None)


async def _ensure_objects(client: Client, shape: StreamSpec, bucket: str, ttl: float | None) -> str:
    js = client.jetstream()
    try:
        await js.stream_info(f"OBJ_{bucket}")
    except nats.js.errors.NotFoundError:
        size, storage = shape.max_bytes, StorageType.FILE
        config = ObjectStoreConfig(bucket, ttl=ttl, max_bytes=size, storage=storage, replicas=shape.replicas)
        await js.create_object_store(bucket, config)
    return bucket
