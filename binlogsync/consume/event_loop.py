"""Runs the coroutines of `async def` handlers, in the caller's event loop or in one that the process shares.

All handlers share one loop that lives as long as the process, so that what a handler opens (a session, a pool of
connections) stays usable between calls.
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
"""Runs a coroutine to completion and returns its result; called from the thread that handles a table."""

_END_S = 5.0
_guard = threading.Lock()
_shared: list[asyncio.AbstractEventLoop] = []


def run_in_shared_loop(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run the coroutine in the event loop of this process, which starts at the first call."""
    with _guard:
        if not _shared:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="async handlers", daemon=True)
            thread.start()
            _shared.append(loop)
            atexit.register(_end, loop, thread)
    return runner_for(_shared[0])(coroutine)


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Cancel the tasks that handlers left running, then close the loop, as asyncio.run does.

    Otherwise the loop would keep the handlers' modules, and their open connections, past interpreter shutdown.
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
    """A RunCoroutine for a loop that runs in another thread."""

    def wait(coroutine: Coroutine[Any, Any, object]) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    return wait


async def run_in_thread(work: Callable[[RunCoroutine], Result], stop: Callable[[], None]) -> Result:
    """Run blocking work in a thread; coroutines from it run in the current event loop.

    On cancellation, and on SIGTERM or SIGINT if the loop runs in the main thread, `stop` is called; the work then
    finishes before this returns.
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
