"""Where a user's coroutines are awaited: in an event loop of the caller's own, or in one that the process shares.

One loop for all handlers, and for as long as the process lives, so that what a handler opens (a session, a pool of
connections) stays usable from call to call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

Await = Callable[[Coroutine[Any, Any, object]], object]
"""Runs a coroutine to its end and gives its result; called from the thread that handles a table."""

_guard = threading.Lock()
_shared: list[asyncio.AbstractEventLoop] = []


def in_shared_loop(coroutine: Coroutine[Any, Any, object]) -> object:
    """Await it in the loop of this process, which is started when it is first wanted."""
    with _guard:
        if not _shared:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="async handlers", daemon=True).start()
            _shared.append(loop)
    return in_loop(_shared[0])(coroutine)


def in_loop(loop: asyncio.AbstractEventLoop) -> Await:
    """Awaits in a loop that runs in another thread."""

    def wait(coroutine: Coroutine[Any, Any, object]) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    return wait
