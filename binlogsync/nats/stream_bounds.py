"""Asks which sequences a stream contains, and when it was created."""

from __future__ import annotations

import math
from abc import abstractmethod

from nats.aio.client import Client
from nats.js.api import StreamInfo

from binlogsync.nats.client import NatsOptions
from binlogsync.nats.durable import creation_time
from binlogsync.nats.quick_requests import find_requests, open_requests
from binlogsync.nats.stream_messages import StreamMessages
from binlogsync.nats.stream_tables import stream_info


class StreamBounds(StreamMessages):
    """The part of a StreamReader that looks at the state of the stream."""

    _options: NatsOptions
    _client: Client | None

    @property
    @abstractmethod
    def is_lost(self) -> bool:
        """True when the connection broke since the last call of this reader."""

    def first_sequence(self) -> int:
        """Sequence of the oldest message in the stream; last_sequence() + 1 when it is empty."""
        return self._bounds()[0]

    def last_sequence(self) -> int:
        """Sequence of the newest message, checkpoint messages included; 0 when there never was a message."""
        return self._bounds()[1]

    def created_at(self) -> str | None:
        """When nats-server created the stream, by its clock; another time means that the stream was recreated.

        RFC 3339, in microseconds; None if the reply does not contain it.
        """
        return creation_time(self._info())

    def _bounds(self, since: float = math.inf) -> tuple[int, int]:
        """Sequences of the oldest message, or of the next one if there is none, and of the newest.

        An earlier reply is used if it was requested at or after `since` (time.monotonic).
        """
        client, found = self._client, None
        if client is not None and not self.is_lost:
            requests = find_requests(client) or self.ask(open_requests, 0.0)
            found = requests.stream_bounds(client, self.stream, self._options.request_timeout_s, since)
        if found is not None:
            return found
        state = self._info().state
        return state.first_seq if state.messages else state.last_seq + 1, state.last_seq

    def _info(self) -> StreamInfo:
        return self.ask(lambda client: stream_info(client, self.source), 0.0)
