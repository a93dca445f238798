"""Where a user's coroutines are awaited: in an event loop of the caller's own, or in one that the process shares.

One loop for all handlers, and for as long as the process lives, so that what a handler opens (a session, a pool of
connections) stays usable from call to call.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

Result = TypeVar("Result")

RunCoroutine = Callable[[Coroutine[Any, Any, object]], object]
"""Runs a coroutine to its end and gives its result; called from the thread that handles a table."""

_END_S = 5.0
_guard = threading.Lock()
_shared: list[asyncio.AbstractEventLoop] = []


def run_in_shared_loop(coroutine: Coroutine[Any, Any, object]) -> object:
    """Await it in the loop of this process, which is started when it is first wanted."""
    with _guard:
        if not _shared:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="async handlers", daemon=True)
            thread.start()
            _shared.append(loop)
            atexit.register(_end, loop, thread)
    return runner_for(_shared[0])(coroutine)


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Cancel what handlers have left running and end the loop, as asyncio.run does.

    Left to itself it would keep their modules, and what these have open, beyond the end of the interpreter.
    """
    with contextlib.suppress(concurrent.futures.TimeoutError):
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(_END_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_END_S)
    if not thread.is_alive():
        loop.close()


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def runner_for(loop: asyncio.AbstractEventLoop) -> RunCoroutine:
    """Awaits in a loop that runs in another thread."""

    def wait(coroutine: Coroutine[Any, Any, object]) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    return wait


async def run_in_thread(work: Callable[[RunCoroutine], Result], stop: Callable[[], None]) -> Result:
    """Do blocking work in a thread, while coroutines that it meets are awaited in the loop that runs here.

    When this is cancelled, or SIGTERM or SIGINT come (to a loop of the main thread), `stop` is called, and the work is
    waited for.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(asyncio.to_thread(work, runner_for(loop)))
    with _on_signals(loop, stop):
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            stop()
            await task
            raise


@contextlib.contextmanager
def _on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
