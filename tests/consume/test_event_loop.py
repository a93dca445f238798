"""The event loop that handlers share: it closes cleanly at the end of the process, even if tasks are still running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio
import duckdb
from binlogsync.consume.event_loop import run_in_shared_loop

connection = duckdb.connect()
tasks = []

async def keep_alive():
    try:
        while True:
            connection.execute("SELECT 1")
            await asyncio.sleep(0.01)
    finally:
        print("ended", flush=True)

async def handler():
    if {leaves_a_task}:
        tasks.append(asyncio.ensure_future(keep_alive()))
        await asyncio.sleep(0)

run_in_shared_loop(handler())
"""


@pytest.mark.parametrize(("leaves_a_task", "expected"), [(False, ""), (True, "ended\n")])
def test_nothing_is_left_behind_at_the_end_of_the_process(leaves_a_task: bool, expected: str) -> None:
    program = PROGRAM.format(leaves_a_task=leaves_a_task)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
