"""What a person does to a stream by hand, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import nats
import nats.js.errors


def ask(url: str, question: Callable[[Any], Any]) -> Any:
    """What JetStream answers."""

    async def ask() -> Any:
        client = await nats.connect(url)
        try:
            return await question(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(ask())


def delete_stream(url: str, stream: str) -> None:
    """Lose a stream and all its messages; nothing when there is none."""

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
    """Drop all messages but the last `keep`, as a stream's limits do."""

    async def purge() -> None:
        client = await nats.connect(url)
        await client.jetstream().purge_stream(stream, keep=keep)
        await client.close()

    asyncio.run(purge())
