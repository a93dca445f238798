"""The disk of nats-server fills up: the tail reports what to do, retries, and stores every change once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import FreshDatabase
from tests.e2e.oracle import assert_exact
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink
from tests.waiting import wait_until

SMALL_MB = 8
ROWS, ROW_BYTES = 40, 500_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory of a few megabytes."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs permission to mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_reported_and_loses_nothing(mysql: FreshDatabase, small_disk: Path) -> None:
    source, store = f"full-{mysql.name}", MemoryPositionStore()
    config, options = config_of(mysql.server, source), options_of(source, mysql.name)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT)")
    for number in range(ROWS):
        mysql.execute("INSERT INTO t VALUES (%s, %s)", (number, chr(97 + number % 26) * ROW_BYTES))
    # JetStream reserves nothing: it finds out that the disk is full when it writes.
    with servers.nats(small_disk / "store", options={"jetstream.max_file_store": "1GB"}) as server:
        with TailThread(config, [stream_sink(server.url)], store, options) as tail:
            wait_until(
                lambda: tail.error or "then restart nats-server" in str(tail.progress.recoveries),
                60,
                "the tail to report the full disk with advice",
            )
            assert tail.error is None, "the tail retries"
            server.stop()
            subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
            server.start()
            tail.catch_up()
        assert len(assert_exact((config, mysql.name), server.url, source)) == ROWS
