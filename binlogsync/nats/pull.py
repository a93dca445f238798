"""Fetches the messages of a durable consumer of JetStream by pull requests, ahead of the caller.

A request is limited in messages and in bytes, because nats-server closes the connection of a reader with more than
64 MB of pending data. One request is open at a time. When it is complete and the stream has more messages, the next one
is sent at once, while the caller processes messages, until enough are buffered. The caller receives messages of
complete requests, if there are any, so that messages that arrive one by one are decoded together.

After `listen` a request is open nearly always, and a callback reports that messages arrived: many durables can then
share one connection and few threads, and cost nothing while they have no messages. Messages that have arrived are then
taken in the caller's thread: a request to the event loop costs more than receiving a small message.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Awaitable, Callable

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from binlogsync.nats.adapter import stop_receiving, subscribe_raw
from binlogsync.nats.block_buffer import BlockBuffer
from binlogsync.nats.frame_kernel import DELIVERED
from binlogsync.nats.message_block import MessageBlock, RawMessage

_MOST_BYTES = 16 << 20  # of one request, unless the server accepts larger messages
_SHARED_BYTES = 1 << 20  # the same for a listening subscription, which shares its connection with others
_MOST_BUFFERED_BYTES = 32 << 20
"""No request is sent while more bytes than this are buffered; memory use is at most this plus one request."""
_REPLY_S = 10.0  # a request without a reply for so long is lost
_LISTEN_S = 30.0  # how long a request of a listening subscription is open
_STATUS = "Status"
_NO_MESSAGES, _EXPIRED, _CONFLICT = "404", "408", "409"


class PullSubscription:
    """Receives the messages of one durable over one connection."""

    def __init__(self, client: Client, stream: str, durable: str) -> None:
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._buffer = BlockBuffer()
        self._loop = asyncio.get_running_loop()
        self._count = 1  # number of messages in a request sent ahead of the caller
        self._sending: asyncio.Task[None] | None = None
        self._request_number = 0  # of the last request; the last token of its reply subject
        self._remaining = 0  # messages that this request may still deliver; 0 when it is complete
        self._has_more = False  # the last request ended at one of its limits, so there may be more messages
        self._error: nats.js.errors.APIError | None = None
        self._finished = asyncio.Event()
        self._notify: Callable[[], None] | None = None
        self._ends_at = math.inf  # of the open request, by the clock of the event loop

    async def open(self) -> PullSubscription:
        """Subscribe to the inbox; returns itself."""
        self._subscription = await subscribe_raw(self._client, f"{self._inbox}.*", self._receive)
        return self

    async def close(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            stop_receiving(self._client, self._subscription)
            await self._subscription.unsubscribe()

    def listen(self, notify: Callable[[], None]) -> None:
        """From the next call of `take` on, keep a request open, and call `notify` when a message or an error arrives.

        `notify` is called in the event loop, once for the messages until the next `take`, and by a `take` that leaves
        messages. While the request is open, `take` returns what has arrived, and does not wait.
        """
        self._notify = notify

    async def take(self, count: int, timeout_s: float) -> MessageBlock:
        """Up to `count` messages in stream order; at least one if one arrives within `timeout_s`.

        Raises nats.js.errors.APIError when the server has no such durable.
        """
        loop = self._loop
        ends_at = loop.time() + timeout_s
        self._count = max(self._count, count)
        if self._notify is not None and self._remaining and loop.time() > self._ends_at:
            self._remaining = 0  # the server's reply that it expired is lost
        if not self._buffer.count and not self._remaining:
            await self._request(count)
            await self._wait(ends_at - loop.time())
        elif not self._buffer.has_complete and (self._notify is None or self._error is not None):
            await self._wait(ends_at - loop.time())
        if not self._buffer.count and not self._remaining and (left_s := ends_at - loop.time()) > 0:
            await self._request(1, left_s)
            await self._wait(left_s)
        found = self._buffer.take(count)
        self._request_ahead()
        if self._buffer.count:
            self._report()
        return found

    def take_arrived(self, count: int) -> MessageBlock:
        """Up to `count` messages that have arrived, if it listens; empty after an error. For any thread."""
        if self._notify is None or self._error is not None or not self._buffer.count:
            return MessageBlock.empty()
        found = self._buffer.take(count)
        if self._has_more and not self._remaining:
            with contextlib.suppress(RuntimeError):  # the connection is being closed
                self._loop.call_soon_threadsafe(self._request_ahead)
        if self._buffer.count:
            self._report()
        return found

    def report_missed(self) -> None:
        """Call the listener again if `take` has something to do beside the messages that were taken last: others have
        arrived, or no request is open, because of an error, for example. For any thread.
        """
        if self._buffer.count or self._error is not None or not (self._remaining or self._has_more):
            self._report()

    def _request_ahead(self) -> None:
        """Send the next request if the stream has more messages and not enough are buffered."""
        if self._has_more and not self._remaining and self._buffer.size <= _MOST_BUFFERED_BYTES:
            wait_s = 0.0 if self._notify is None else _LISTEN_S
            self._sending = asyncio.ensure_future(_quietly(self._request(self._count, wait_s)))

    def _request(self, count: int, wait_s: float = 0.0) -> Awaitable[None]:
        """Send a request for the messages available now, or within `wait_s`."""
        self._request_number, self._remaining, self._has_more = self._request_number + 1, count, False
        self._ends_at = self._loop.time() + wait_s + _REPLY_S
        self._finished.clear()
        most_bytes = _MOST_BYTES if self._notify is None else _SHARED_BYTES
        request: dict[str, object] = {"batch": count, "max_bytes": max(most_bytes, 2 * self._client.max_payload)}
        request |= {"expires": int(wait_s * 1e9)} if wait_s else {"no_wait": True}
        return self._client.publish(
            self._subject, json.dumps(request).encode(), f"{self._inbox}.{self._request_number}"
        )

    async def _wait(self, seconds: float) -> None:
        """Wait until the open request is complete, for at most `seconds`."""
        if self._remaining:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), max(seconds, 0.001))
        if self._error is not None:
            raise self._error

    def _receive(self, block: MessageBlock) -> None:
        """Handle messages of the stream and status replies to requests, in order."""
        begun = 0
        for row in block.rows_without(DELIVERED):
            message = block.message(row)
            if message.subject.startswith(self._inbox):
                self._append(block.slice(begun, row))
                self._receive_status(message)
                begun = row + 1
        self._append(block.slice(begun, len(block)))

    def _append(self, block: MessageBlock) -> None:
        """Add messages of the stream to the buffer."""
        is_first = False
        while len(block):
            # More than the request may still deliver are of an earlier request.
            count = min(len(block), max(self._remaining, 1))
            part, block = block.slice(0, count), block.slice(count, len(block))
            is_first = self._buffer.append(part) or is_first
            self._remaining -= count
            if self._remaining <= 0:
                self._has_more = True
                self._finish()
        if is_first:
            self._report()

    def _receive_status(self, message: RawMessage) -> None:
        status = message.headers.get(_STATUS, "")
        if message.subject != f"{self._inbox}.{self._request_number}" or status.startswith("1"):
            return  # an earlier request, or a heartbeat (100)
        if not status.startswith("4"):  # 503: nothing answers requests to this durable
            what = message.headers.get("Description", "")
            self._error = nats.js.errors.APIError(code=int(status), description=what or "no such durable")
        # 404: no message. 408: the request expired. 409: the next message would exceed the byte limit.
        self._has_more = status == _CONFLICT
        if self._notify is not None:
            # Another request after an empty one with another status could fail at once, again and again.
            self._has_more = status in (_NO_MESSAGES, _EXPIRED) or self._buffer.count > 0
        self._finish()
        if not self._remaining:
            self._report()

    def _report(self) -> None:
        """Call the listener, if there is one."""
        if self._notify is not None:
            self._notify()

    def _finish(self) -> None:
        """The request is complete."""
        self._remaining = 0
        self._buffer.complete()
        self._finished.set()
        self._request_ahead()


async def _quietly(sending: Awaitable[None]) -> None:
    """Send, and ignore a broken connection: the call that waits for messages detects it."""
    with contextlib.suppress(nats.errors.Error):
        await sending
