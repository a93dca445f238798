"""A stop flag that signals set: without a deadlock, wherever the main thread is when a signal arrives."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from binlogsync.signals import stop_on_signals

# A signal that arrives while the main thread holds the lock of the event.
INTERRUPTED_WAIT = """
import os, signal, threading
from binlogsync.signals import stop_on_signals

class InterruptedLock:
    def __init__(self, lock):
        self.lock = lock
        self.is_sent = False
    def __enter__(self):
        self.lock.__enter__()
        if not self.is_sent and threading.current_thread() is threading.main_thread():
            self.is_sent = True
            os.kill(os.getpid(), signal.SIGTERM)
    def __exit__(self, *error):
        self.lock.__exit__(*error)
    def __getattr__(self, name):
        return getattr(self.lock, name)

with stop_on_signals() as stop:
    stop._cond = InterruptedLock(stop._cond)
    while not stop.wait(1):
        pass
print("stopped")
"""


def test_a_signal_inside_of_a_wait_sets_the_event() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WAIT], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "stopped\n"


@pytest.fixture
def default_interrupts() -> Iterator[None]:
    """A shell lets the commands that it starts in the background ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_interrupts")
def test_the_second_signal_does_what_it_did_before() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(60)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_another_thread_receives_no_signals() -> None:
    handlers = []

    def look() -> None:
        with stop_on_signals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
