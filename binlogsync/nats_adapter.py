"""The one file that knows private names of nats-py: it hands whole protocol text to the connection in one write.

nats-py makes each message in Python and flushes it on its own, which costs more than nats-server needs to store it.
What is handed over here is framed already; the connection, its requests, answers and errors stay nats-py's.
tests/test_nats_adapter.py fails when a name that is used here changes.
"""

from __future__ import annotations

from typing import Final

import nats.errors
from nats.aio.client import Client

SEND_COMMAND: Final = "_send_command"
FLUSH_PENDING: Final = "_flush_pending"


async def send_framed(client: Client, frames: memoryview) -> None:
    """Write protocol text behind all that was published before; returns when the socket has taken nearly all of it.

    Raises nats.errors.ConnectionClosedError on a closed connection. One that breaks later is noticed by who waits for
    an answer.
    """
    if client.is_closed or not client.is_connected:
        raise nats.errors.ConnectionClosedError
    await getattr(client, SEND_COMMAND)(frames)
    await getattr(client, FLUSH_PENDING)(force_flush=True)
