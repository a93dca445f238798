"""Operations of an administrator on a stream, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import nats
import nats.js.errors


def ask(url: str, question: Callable[[Any], Any]) -> Any:
    """Run a JetStream call and return its result."""

    async def ask() -> Any:
        client = await nats.connect(url)
        try:
            return await question(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(ask())


def delete_stream(url: str, stream: str) -> None:
    """Delete a stream and all its messages, if it exists."""

    async def delete() -> None:
        client = await nats.connect(url)
        try:
            await client.jetstream().delete_stream(stream)
        except nats.js.errors.NotFoundError:
            pass
        finally:
            await client.close()

    asyncio.run(delete())


def purge_stream(url: str, stream: str, keep: int) -> None:
    """Drop all messages except the last `keep`, as the limits of a stream do."""

    async def purge() -> None:
        client = await nats.connect(url)
        await client.jetstream().purge_stream(stream, keep=keep)
        await client.close()

    asyncio.run(purge())
