"""Stores bodies larger than a NATS message in an object store bucket, in time and memory linear in their size.

The format is that of NATS, so that every client library can read it: chunks in order on `$O.<bucket>.C.<nuid>`, then
one message on `$O.<bucket>.M.<name in base64>` with a JSON document of nuid, size, number of chunks and SHA-256 digest.
The `get` of nats-py joins the chunks in quadratic time, and its `put` waits for each chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header

from binlogsync.errors import WireError
from binlogsync.nats.adapter import send_framed
from binlogsync.nats.pull import PullSubscription

_CHUNK_BYTES = 512 << 10
_IN_FLIGHT = 16
_FETCHED = 64
_CONSUMER_S = 30.0
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """Metadata of an object; its chunks are on the subject of `nuid`."""

    nuid: str
    size: int
    chunks: int
    digest: bytes


def chunk_subject(bucket: str, nuid: str) -> str:
    """The subject of an object's chunks."""
    return f"$O.{bucket}.C.{nuid}"


def meta_subject(bucket: str, name: str) -> str:
    """The subject of an object's metadata."""
    return f"$O.{bucket}.M.{urlsafe_b64encode(name.encode()).decode()}"


async def put_object(client: Client, bucket: str, name: str, body: bytes | memoryview, timeout_s: float) -> None:
    """Store the body under the name, replacing an earlier one.

    `timeout_s` applies to each reply of the server. Raises nats.js.errors.APIError for an error reply, TimeoutError,
    and the errors of nats-py for a broken connection; after an error no metadata refers to the stored chunks.
    """
    js, nuid = client.jetstream(), uuid4().hex
    earlier = await _find(client, bucket, name)
    size = min(_CHUNK_BYTES, client.max_payload)
    view = memoryview(body)
    chunks = [view[at : at + size] for at in range(0, len(view), size)]
    try:
        await _publish_in_order(client, chunk_subject(bucket, nuid), chunks, timeout_s)
    except (nats.js.errors.APIError, TimeoutError):
        with contextlib.suppress(nats.js.errors.Error, nats.errors.Error, TimeoutError):
            await js.purge_stream(f"OBJ_{bucket}", subject=chunk_subject(bucket, nuid))
        raise
    document = {
        "name": name,
        "options": {"max_chunk_size": size},
        "bucket": bucket,
        "nuid": nuid,
        "size": len(view),
        "mtime": datetime.now(UTC).isoformat(),
        "chunks": len(chunks),
        "digest": f"SHA-256={urlsafe_b64encode(sha256(view).digest()).decode()}",
    }
    rollup = {Header.ROLLUP.value: "sub"}
    await js.publish(meta_subject(bucket, name), json.dumps(document).encode(), timeout=timeout_s, headers=rollup)
    if earlier is not None:
        await js.purge_stream(f"OBJ_{bucket}", subject=chunk_subject(bucket, earlier.nuid))


async def _publish_in_order(client: Client, subject: str, chunks: list[memoryview], timeout_s: float) -> None:
    """Send the chunks in order, with several unacknowledged at a time."""
    inbox = client.new_inbox()
    waiting: deque[asyncio.Future[Msg]] = deque()
    unanswered: deque[asyncio.Future[Msg]] = deque()

    async def answered(message: Msg) -> None:
        if unanswered:
            unanswered.popleft().set_result(message)

    subscription = await client.subscribe(inbox, cb=answered)
    try:
        for chunk in chunks:
            answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
            waiting.append(answer)
            unanswered.append(answer)
            await send_framed(client, f"PUB {subject} {inbox} {len(chunk)}\r\n".encode(), chunk, b"\r\n")
            if len(waiting) >= _IN_FLIGHT:
                _check(await asyncio.wait_for(waiting.popleft(), timeout_s))
        while waiting:
            _check(await asyncio.wait_for(waiting.popleft(), timeout_s))
    finally:
        await subscription.unsubscribe()


def _check(answer: Msg) -> None:
    """Raise the error of a server reply to a chunk."""
    if not answer.data:
        raise nats.js.errors.NotFoundError(code=404, description="no stream stores the chunks of the object")
    acknowledged = json.loads(answer.data)
    if "error" in acknowledged:
        raise nats.js.errors.APIError.from_error(acknowledged["error"])


async def get_object(client: Client, bucket: str, name: str, timeout_s: float) -> bytes | None:
    """The body under the name; None when the object or the bucket does not exist.

    `timeout_s` applies to each reply of the server. Raises WireError for a damaged or incomplete object.
    """
    for attempt in range(_ATTEMPTS):
        meta = await _find(client, bucket, name)
        if meta is None:
            return None
        try:
            return await _read(client, bucket, meta, timeout_s)
        except WireError as error:
            # Replacing an object deletes its old chunks, possibly while they are read: try again with the new ones.
            if attempt + 1 == _ATTEMPTS or await _find(client, bucket, name) == meta:
                raise WireError(f"object {name} of object store bucket {bucket}: {error}") from error
    return None


async def _read(client: Client, bucket: str, meta: ObjectMeta, timeout_s: float) -> bytes:
    js, stream, consumer = client.jetstream(), f"OBJ_{bucket}", f"object-{uuid4().hex}"
    if not meta.chunks:
        return b""
    config = ConsumerConfig(
        name=consumer,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        filter_subject=chunk_subject(bucket, meta.nuid),
        inactive_threshold=_CONSUMER_S,
        mem_storage=True,
        num_replicas=1,
    )
    info = await js.add_consumer(stream, config)
    if (info.num_pending or 0) < meta.chunks:
        await js.delete_consumer(stream, consumer)
        raise WireError(f"only {info.num_pending or 0} of {meta.chunks} chunks are stored")
    pull = await PullSubscription(client, stream, consumer).open()
    chunks: list[bytes] = []
    digest, size = sha256(), 0
    try:
        while len(chunks) < meta.chunks and size <= meta.size:
            found = await pull.take(min(_FETCHED, meta.chunks - len(chunks)), timeout_s)
            if not len(found):
                raise TimeoutError(f"chunk {len(chunks) + 1} of {meta.chunks} did not arrive")
            for chunk in found.bodies():
                chunks.append(chunk)
                digest.update(chunk)
                size += len(chunk)
    finally:
        await pull.close()
        await js.delete_consumer(stream, consumer)
    if (len(chunks), size) != (meta.chunks, meta.size):
        raise WireError(f"{len(chunks)} chunks with {size} bytes are stored, expected {meta.chunks} with {meta.size}")
    if digest.digest() != meta.digest:
        raise WireError("the digest of its chunks differs from its metadata")
    return b"".join(chunks)


async def _find(client: Client, bucket: str, name: str) -> ObjectMeta | None:
    """The object's metadata; None when the object or the bucket does not exist."""
    try:
        message = await client.jetstream().get_last_msg(f"OBJ_{bucket}", meta_subject(bucket, name))
    except nats.js.errors.NotFoundError:
        return None
    try:
        return _meta(json.loads(message.data or b"null"))
    except (ValueError, KeyError, TypeError, RecursionError, Base64Error) as error:
        raise WireError(f"object {name} of object store bucket {bucket} has invalid metadata: {error!r}") from error


def _meta(document: object) -> ObjectMeta | None:
    if not isinstance(document, dict):
        raise TypeError("not a JSON object")
    if document.get("deleted"):
        return None
    nuid, size, chunks, digest = (document[key] for key in ("nuid", "size", "chunks", "digest"))
    if not (isinstance(nuid, str) and isinstance(size, int) and isinstance(chunks, int) and isinstance(digest, str)):
        raise TypeError("nuid, size, chunks or digest")
    if not nuid or any(mark in nuid for mark in ".*> \r\n\t"):
        raise ValueError(f"nuid {nuid!r}")
    return ObjectMeta(nuid, size, chunks, urlsafe_b64decode(digest.removeprefix("SHA-256=")))
