"""Ctrl-C and SIGTERM as a flag, so that a program ends in good order; a second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals(stop: threading.Event | None = None) -> Iterator[threading.Event]:
    """An event (that one, or a new one) that the first SIGINT or SIGTERM sets; handlers are put back.

    Outside of the main thread, which alone hears of signals, nobody sets it.
    """
    stop = stop or threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        give_back()

    for number in numbers:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        give_back()
