"""Operations of an administrator on a stream, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import nats
import nats.js.errors

# nats-py waits 2 s for a connection and 5 s for a reply, which a busy machine may exceed.
PATIENCE_S = 60


def ask(url: str, question: Callable[[Any], Any]) -> Any:
    """Run a JetStream call and return its result."""

    async def ask() -> Any:
        client = await nats.connect(url, connect_timeout=PATIENCE_S)
        try:
            return await question(client.jetstream(timeout=PATIENCE_S))
        finally:
            await client.close()

    return asyncio.run(ask())


def delete_stream(url: str, stream: str) -> None:
    """Delete a stream and all its messages, if it exists."""
    with suppress(nats.js.errors.NotFoundError):
        ask(url, lambda js: js.delete_stream(stream))


def purge_stream(url: str, stream: str, keep: int) -> None:
    """Drop all messages except the last `keep`, as the limits of a stream do."""
    ask(url, lambda js: js.purge_stream(stream, keep=keep))
