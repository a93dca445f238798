"""Commands and tails of a deployment in the process of the test, which has loaded their libraries already.

A process of its own takes about two seconds of CPU time to start. It is for tests of what only a process has: its
signals, its exit code, its standard streams, its start and its kill.
"""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from unittest.mock import patch

from binlogsync.cli.main import main
from binlogsync.settings import Settings
from binlogsync.sinks.jetstream import JetStreamSink
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.cli_deployment import Deployment
from tests.e2e.tailing import TailThread


def run_here(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Like Deployment.run, of any command but `tail`, which changes how pyarrow is imported."""
    deployment.command()  # writes the settings
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGSYNC_")}
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        chdir(deployment.folder),
        patch.dict(os.environ, clean, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = main(arguments)
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in (out, err))
    assert deployment.settings["MYSQL_PASSWORD"] not in stdout + stderr
    return subprocess.CompletedProcess(arguments, code, stdout, stderr)


@contextmanager
def tailing_here(deployment: Deployment) -> Iterator[TailThread]:
    """The tail of the deployment, with its position store, in a thread until the end of the block."""
    deployment.command()  # writes the settings
    settings = Settings.read(deployment.folder, {})
    source = settings.source()
    with (
        closing(SQLitePositionStore(deployment.folder / settings.values.positions.path)) as store,
        closing(settings.snapshots(source)) as snapshots,
        TailThread(
            settings.mysql(source),
            [JetStreamSink(settings.jetstream())],
            store,
            settings.tail(source),
            snapshots=snapshots,
        ) as tail,
    ):
        yield tail
