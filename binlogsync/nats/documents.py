"""Documents that messages of a stream refer to: table schemas by fingerprint, and bodies too large for a message.

A schema is an entry of a key-value bucket, or an object of the same name if it is larger than a message. Large bodies
are objects of another bucket. A schema is read once and cached; a body is read each time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.errors import WireError
from binlogsync.nats.objects import get_object
from binlogsync.schema import TableSchema

Result = TypeVar("Result")
_LARGE_TIMEOUT_S = 3600.0


class RetryingCall(Protocol):
    """Runs work on a NATS connection, and repeats it after a lost connection. Raises SinkError."""

    def __call__(self, work: Callable[[Client], Awaitable[Result]], timeout_s: float) -> Result: ...


class StoredDocuments:
    """Schemas and large bodies of one source's stream, read with `ask`."""

    def __init__(self, source: str, ask: RetryingCall, request_timeout_s: float) -> None:
        self._source = source
        self._ask = ask
        self._request_timeout_s = request_timeout_s
        self._schemas: dict[str, TableSchema] = {}

    def schema(self, fingerprint: str) -> TableSchema:
        """The table schema with that fingerprint; raises WireError when it is not in the source's buckets."""
        if fingerprint not in self._schemas:
            bucket, each_s = subjects.schema_bucket(self._source), self._request_timeout_s

            async def get(client: Client) -> bytes | None:
                try:
                    return (await (await client.jetstream().key_value(bucket)).get(fingerprint)).value
                except nats.js.errors.NotFoundError:
                    return await get_object(client, bucket, fingerprint, each_s)

            document = self._ask(get, _LARGE_TIMEOUT_S)
            if document is None:
                raise WireError(
                    f"key-value bucket {bucket} has no table schema {fingerprint}, which messages of stream "
                    f"{subjects.stream_name(self._source)} require: restore the bucket, or restart the tail (it writes "
                    f"the schemas of the changes that it stores)"
                )
            self._schemas[fingerprint] = TableSchema.from_json(document)
        return self._schemas[fingerprint]

    def large_object(self, name: str) -> bytes:
        """The body of a message that names this object; raises WireError when it is not in the bucket."""
        bucket, each_s = subjects.large_bucket(self._source), self._request_timeout_s
        body = self._ask(lambda client: get_object(client, bucket, name, each_s), _LARGE_TIMEOUT_S)
        if body is None:
            raise WireError(
                f"object store bucket {bucket} has no object {name} with the body of this message: restore it"
            )
        return body
