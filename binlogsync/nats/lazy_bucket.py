"""A key-value bucket with a connection of its own, which is opened at the first request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from binlogsync.errors import PositionError, SinkError, StoreError
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.key_value import KeyValueBucket

Result = TypeVar("Result")


class LazyBucket:
    """See the module. Several threads may use it.

    Args:
        options: how to connect.
        name: name of the bucket, which is created if missing.
        what: what it contains, for the name of the connection and for errors.
        stream: the stream whose number of replicas the bucket gets; None for one replica.
    """

    def __init__(self, options: NatsOptions, name: str, what: str, stream: str | None = None) -> None:
        self.options = options
        self.name = name
        self.connection = NatsConnection(options, f"binlogsync {what}")
        self._bucket = KeyValueBucket(self.connection, name, stream=stream)
        self._what = what
        self._opening = threading.Lock()
        self._opened = self._closed = False

    def call(self, request: Callable[[KeyValueBucket], Result]) -> Result:
        """The reply to a request. Raises StoreError, also if a stored value cannot be read."""
        if self._closed:
            raise StoreError(f"NATS at {self.options.address}: this store is closed; make a new one")
        try:
            with self._opening:
                if not self._opened:
                    self.connection.open()
                    self._opened = True
            return request(self._bucket)
        except (SinkError, PositionError, ValueError, KeyError) as error:
            raise StoreError(f"{self._what} in the bucket {self.name}: {error}") from error

    def close(self) -> None:
        """Close the connection for good; never raises."""
        self._closed = True
        self.connection.close()
