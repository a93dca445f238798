"""Creates key-value buckets, also in accounts that require a size limit."""

from __future__ import annotations

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue

from binlogsync.nats.jetstream_error_codes import JS_STREAM_MAX_BYTES_REQUIRED

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
