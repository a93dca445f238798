"""A run under `dagster dev` detects that `dagster dev` has ended; other runs never do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_binlogsync.tail.dev_process import GONE_S, DevProcesses
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
# Each starts the next and waits: dagster dev -> daemon, code server -> run.
CODE_SERVER = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
DEV = """
import subprocess, sys
daemon = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "daemon"], stdin=subprocess.PIPE)
subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]])
"""
RUN = """
import os, sys, time
from dagster_binlogsync.tail.dev_process import DevProcesses, GONE_S
found = DevProcesses.find()
print(os.getpid(), found is not None and sorted(pid for pid, _ in found.watched), flush=True)
while found is not None and not (found.are_gone() or found.are_gone(time.monotonic() + GONE_S + 1)):
    time.sleep(0.1)
print("gone", flush=True)
"""


@pytest.mark.parametrize("program", ["dagster", "dg"])
@pytest.mark.slow
def test_a_run_detects_that_dev_and_its_daemon_have_ended(program: str) -> None:
    """After a kill of `dagster dev` its daemon still runs; in this test the daemon ends when its stdin is closed."""
    command = [sys.executable, "-c", DEV, CODE_SERVER, RUN, program, "dev"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        number, _, watched = process.stdout.readline().partition(" ")
        run = int(number)
        try:
            numbers = [int(word) for word in watched.strip("[]\n").split(",")]
            assert process.pid in numbers
            assert run not in numbers
            assert len(numbers) == 2
            process.kill()
            process.wait(30)
            assert process.stdout.readline() == "gone\n"
        finally:
            if Path(f"/proc/{run}").exists():
                os.kill(run, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{run}").exists(), 30, "the run to end")


def test_they_are_gone_after_a_minute() -> None:
    found = DevProcesses(frozenset({(2**22 + 1, "0")}))
    assert not found.are_gone(100.0)
    assert not found.are_gone(100.0 + GONE_S - 1)
    assert found.are_gone(100.0 + GONE_S)


def test_a_run_outside_of_dev_detects_nothing() -> None:
    assert DevProcesses.find() is None
