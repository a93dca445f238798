"""Pull requests to a durable, limited in messages and bytes, with the next request sent before its messages are needed.

nats-server closes the connection of a reader with more than 64 MB of pending data, so each request has a byte limit.
While the caller processes messages, further requests are answered one at a time, until enough messages are buffered.
Messages are returned in units of complete replies, so that messages that arrive one by one are decoded together.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from binlogsync.nats.adapter import RawMessage, receive_raw, stop_receiving

_MOST_BYTES = 16 << 20
_READY_BYTES = 32 << 20
"""No request is sent while so many bytes are buffered; memory use is at most this plus one reply."""
_STATUS = "Status"


class PullSubscription:
    """Receives the messages of one durable over one connection."""

    def __init__(self, client: Client, stream: str, durable: str) -> None:
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._ready: deque[RawMessage] = deque()
        self._ready_bytes = 0
        self._whole = 0  # number of buffered messages that belong to complete replies
        self._count = 1  # number of messages to request ahead
        self._asking: asyncio.Task[None] | None = None
        self._asked = 0  # number of the last request
        self._left = 0  # messages that this request may still deliver; 0 when it is complete
        self._was_full = False
        self._error: nats.js.errors.APIError | None = None
        self._answered = asyncio.Event()

    async def open(self) -> PullSubscription:
        """Subscribe to the inbox; returns itself."""
        self._subscription = await self._client.subscribe(
            f"{self._inbox}.*", cb=self._parsed, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        receive_raw(self._client, self._subscription, self._arrived)
        return self

    async def close(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            stop_receiving(self._client, self._subscription)
            await self._subscription.unsubscribe()

    async def take(self, count: int, timeout_s: float) -> list[RawMessage]:
        """Up to `count` messages in stream order; at least one if one arrives within `timeout_s`.

        Raises nats.js.errors.APIError when the server has no such durable.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout_s
        self._count = max(self._count, count)
        if not self._ready and not self._left:
            await self._ask(count)
        if not self._whole:
            await self._wait(ends_at - loop.time())
        if not self._ready and not self._left and (left_s := ends_at - loop.time()) > 0:
            await self._ask(1, left_s)
            await self._wait(left_s)
        found = [self._ready.popleft() for _ in range(min(count, self._whole or len(self._ready)))]
        self._whole = max(0, self._whole - len(found))
        self._ready_bytes -= sum(len(message.data) for message in found)
        self._ask_ahead()
        return found

    def _ask_ahead(self) -> None:
        """Send the next request if more messages are pending and not enough are buffered."""
        if self._was_full and not self._left and self._ready_bytes <= _READY_BYTES:
            self._asking = asyncio.ensure_future(_quietly(self._ask(self._count)))

    def _ask(self, count: int, wait_s: float = 0.0) -> Awaitable[None]:
        """Send a request for the messages available now, or within `wait_s`."""
        self._asked, self._left, self._was_full = self._asked + 1, count, False
        self._answered.clear()
        request: dict[str, object] = {"batch": count, "max_bytes": max(_MOST_BYTES, 2 * self._client.max_payload)}
        request |= {"expires": int(wait_s * 1e9)} if wait_s else {"no_wait": True}
        return self._client.publish(self._subject, json.dumps(request).encode(), f"{self._inbox}.{self._asked}")

    async def _wait(self, seconds: float) -> None:
        """Wait until the open request is complete, at most so many seconds."""
        if self._left:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._answered.wait(), max(seconds, 0.001))
        if self._error is not None:
            raise self._error

    async def _parsed(self, message: Msg) -> None:
        """Callback for a message that nats-py had started to parse."""
        self._arrived(RawMessage(message.subject, message.reply, message.headers or {}, message.data))

    def _arrived(self, message: RawMessage) -> None:
        """Handle a message of the stream, or a status reply to a request."""
        if not message.subject.startswith(self._inbox):
            self._ready.append(message)
            self._ready_bytes += len(message.data)
            self._left -= 1
            if self._left <= 0:
                self._was_full = True
                self._answer()
            return
        status = message.headers.get(_STATUS, "")
        if message.subject != f"{self._inbox}.{self._asked}" or status.startswith("1"):
            return
        if not status.startswith("4"):
            what = message.headers.get("Description", "")
            self._error = nats.js.errors.APIError(code=int(status), description=what or "no such durable")
        # 409: the next message would exceed the byte limit, so more messages are pending.
        self._was_full = status == "409"
        self._answer()

    def _answer(self) -> None:
        self._left, self._whole = 0, len(self._ready)
        self._answered.set()
        self._ask_ahead()


async def _quietly(sending: Awaitable[None]) -> None:
    """Send, and ignore a broken connection: the call that waits for messages detects it."""
    with contextlib.suppress(nats.errors.Error):
        await sending
