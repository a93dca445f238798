"""Commands and tails of a deployment in the process of the test, which has loaded their libraries already.

To start a process takes about two seconds of CPU time. Tests of signals, exit codes of processes, standard streams,
starts and kills need one.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace

import pytest

from binlogsync.cli.main import main
from binlogsync.settings import Settings
from binlogsync.sinks.jetstream import JetStreamSink
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.cli_deployment import Deployment
from tests.e2e.tailing import TailThread


def run_here(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Like Deployment.run, of any command but `tail`, which changes how pyarrow is imported."""
    deployment.command()  # writes the settings
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        pytest.MonkeyPatch.context() as patch,
        chdir(deployment.folder),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        for name in [name for name in os.environ if name.startswith("BINLOGSYNC_")]:
            patch.delenv(name)
        patch.setattr(logging.getLogger(), "handlers", [])  # the command adds the one that a process would have
        code = main(arguments)
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in (out, err))
    assert "Traceback" not in stderr, stderr
    assert deployment.settings["MYSQL_PASSWORD"] not in stdout + stderr
    return subprocess.CompletedProcess(arguments, code, stdout, stderr)


@contextmanager
def tailing_here(deployment: Deployment) -> Iterator[TailThread]:
    """The tail of the deployment, with its position store, in a thread until the end of the block.

    To the server it is the reader that a process in the folder of the deployment would be.
    """
    deployment.command()  # writes the settings
    settings = Settings.read(deployment.folder, {})
    source = settings.source()
    with chdir(deployment.folder):
        mysql = replace(settings.mysql(source), server_id=settings.mysql(source).replica_id)
    with (
        closing(SQLitePositionStore(deployment.folder / settings.values.positions.path)) as store,
        closing(settings.snapshots(source)) as snapshots,
        TailThread(
            mysql,
            [JetStreamSink(settings.jetstream())],
            store,
            settings.tail(source),
            snapshots=snapshots,
        ) as tail,
    ):
        yield tail
