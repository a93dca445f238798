"""Asking a durable for messages: bounded in number and in bytes, and the next ones asked for before they are wanted.

nats-server breaks the connection of a reader for whom more than 64 MB wait, so a request says how many bytes it takes.
While the caller works on what it got, the answer to the next request comes in; one request is under way at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque

import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from binlogsync.stream.adapter import Received, receive_raw, stop_receiving

_MOST_BYTES = 16 << 20
_STATUS = "Status"


class Pull:
    """What one durable delivers over one connection."""

    def __init__(self, client: Client, stream: str, durable: str) -> None:
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._ready: deque[Received] = deque()
        self._asked = 0  # number of the last request
        self._left = 0  # messages that it may still bring; 0 when it is answered
        self._was_full = False
        self._error: nats.js.errors.APIError | None = None
        self._answered = asyncio.Event()

    async def open(self) -> Pull:
        """Listen; returns itself."""
        self._subscription = await self._client.subscribe(
            f"{self._inbox}.*", cb=self._whole, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        receive_raw(self._client, self._subscription, self._arrived)
        return self

    async def close(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            stop_receiving(self._client, self._subscription)
            await self._subscription.unsubscribe()

    async def take(self, count: int, timeout_s: float) -> list[Received]:
        """Up to `count` messages, in the order of the stream, at least one when there is one within `timeout_s`.

        Raises nats.js.errors.APIError when the server has no such durable.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout_s
        if not self._ready and not self._left:
            await self._ask(count)
        await self._wait(ends_at - loop.time())
        if not self._ready and not self._left and (left_s := ends_at - loop.time()) > 0:
            await self._ask(1, left_s)
            await self._wait(left_s)
        found = [self._ready.popleft() for _ in range(min(count, len(self._ready)))]
        if self._was_full and not self._left and not self._ready:
            await self._ask(count)
        return found

    async def _ask(self, count: int, wait_s: float = 0.0) -> None:
        """Send a request: what is there now, or what comes within `wait_s`."""
        self._asked, self._left, self._was_full = self._asked + 1, count, False
        self._answered.clear()
        request: dict[str, object] = {"batch": count, "max_bytes": max(_MOST_BYTES, 2 * self._client.max_payload)}
        request |= {"expires": int(wait_s * 1e9)} if wait_s else {"no_wait": True}
        await self._client.publish(self._subject, json.dumps(request).encode(), f"{self._inbox}.{self._asked}")

    async def _wait(self, seconds: float) -> None:
        """Until the request under way is answered, but no longer."""
        if self._left:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._answered.wait(), max(seconds, 0.001))
        if self._error is not None:
            raise self._error

    async def _whole(self, message: Msg) -> None:
        """A message that nats-py had begun to read."""
        self._arrived(Received(message.subject, message.reply, message.headers or {}, message.data))

    def _arrived(self, message: Received) -> None:
        """A message of the stream, or what the server says of a request."""
        if not message.subject.startswith(self._inbox):
            self._ready.append(message)
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
        # 409 says that the next message would have been too much: there is more.
        self._was_full = status == "409"
        self._answer()

    def _answer(self) -> None:
        self._left = 0
        self._answered.set()
