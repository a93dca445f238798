"""Creates the buckets of a source, key-value and object store, also in accounts that require a size limit."""

from __future__ import annotations

import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, ObjectStoreConfig, StorageType
from nats.js.kv import KeyValue

from binlogsync.codec import subjects
from binlogsync.nats.jetstream_error_codes import JS_STREAM_MAX_BYTES_REQUIRED
from binlogsync.nats.stream import StreamSpec

_LONGER_S = 3600.0
_BYTES = 64 << 20
"""Many times the size of the schemas, or the progress, of thousands of tables."""


async def create_key_value(js: JetStreamContext, config: KeyValueConfig) -> KeyValue:
    """Create the bucket; with a size limit if the account requires one (`max_bytes_required`)."""
    try:
        return await js.create_key_value(config)
    except nats.js.errors.APIError as error:
        if error.err_code != JS_STREAM_MAX_BYTES_REQUIRED:
            raise
        return await js.create_key_value(config.evolve(max_bytes=_BYTES))


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
