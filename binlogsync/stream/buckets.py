"""Making key-value buckets, in accounts that limit what may be made too."""

from __future__ import annotations

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue

_MAX_BYTES_REQUIRED = 10113
_BYTES = 64 << 20
"""Many times what schemas of thousands of tables, or their progress, take."""


async def create_key_value(js: JetStreamContext, config: KeyValueConfig) -> KeyValue:
    """The bucket, made; with a limit of its size where the account requires one (`max_bytes_required`)."""
    try:
        return await js.create_key_value(config)
    except nats.js.errors.APIError as error:
        if error.err_code != _MAX_BYTES_REQUIRED:
            raise
        return await js.create_key_value(config.evolve(max_bytes=_BYTES))
