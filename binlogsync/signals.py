"""SIGINT (Ctrl-C) and SIGTERM as a stop flag, so that a program ends cleanly; a second signal ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType


@contextmanager
def stop_on_signals(stop: threading.Event | None = None) -> Iterator[threading.Event]:
    """An event (that one, or a new one) that the first SIGINT or SIGTERM sets; handlers are put back.

    Outside of the main thread, which alone receives signals, it is never set.
    """
    stop = stop or threading.Event()
    with call_on_signals(lambda name: stop.set(), once=True):
        yield stop


@contextmanager
def call_on_signals(ask: Callable[[str], None], *, once: bool) -> Iterator[None]:
    """Calls `ask` with the name of each SIGINT or SIGTERM while the block lasts; with `once` only of the first, and the
    next does what it did before. Does nothing outside of the main thread.

    A separate thread calls `ask`. A signal handler runs in the main thread between any two instructions, and that
    thread may hold the lock which `ask` needs: `Event.set` inside of the handler waits forever when the signal arrives
    inside of `Event.wait`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    received: SimpleQueue[str | None] = SimpleQueue()  # its put() may interrupt itself

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def hear(number: int, _frame: FrameType | None) -> None:
        received.put(signal.Signals(number).name)
        if once:
            give_back()

    def pass_on() -> None:
        while (name := received.get()) is not None:
            ask(name)

    thread = threading.Thread(target=pass_on, name="binlogsync-signals", daemon=True)
    thread.start()
    for number in numbers:
        signal.signal(number, hear)
    try:
        yield
    finally:
        give_back()
        received.put(None)
        thread.join()
