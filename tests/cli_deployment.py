"""A folder with a .env file, in which tests run `binlogsync` as a process."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from binlogsync.cli.main import main
from binlogsync.mysql import MySQLConfig, inspect_server
from binlogsync.servers import NATSServer
from tests.databases import FreshDatabase
from tests.forked import ForkedProcess
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
_NUMBERS = itertools.count(1)
TIMEOUT_S = 60.0


class Deployment:
    """A folder with a .env file, and `binlogsync` run in it."""

    def __init__(self, folder: Path, mysql: FreshDatabase, nats: NATSServer) -> None:
        self.folder = folder
        self.mysql = mysql
        self.nats = nats
        self.source = f"cli{os.getpid()}n{next(_NUMBERS)}"
        self.stream = f"CDC_{self.source.upper()}"
        server = mysql.server
        self.settings = {
            "SOURCE": self.source,
            "MYSQL_HOST": server.host,
            "MYSQL_PORT": str(server.port),
            "MYSQL_USER": server.cdc_user,
            "MYSQL_PASSWORD": server.cdc_password,
            "NATS_URL": nats.url,
            "INCLUDE": f"{mysql.name}.*",
            "FLUSH_INTERVAL_S": "0.2",
            "START": self.binlog_end(),
        }

    def binlog_end(self) -> str:
        """The position at the end of the binlog."""
        server = self.mysql.server
        config = MySQLConfig(server.host, server.port, server.cdc_user, server.cdc_password)
        return str(inspect_server(config).end())

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        lines = (f"BINLOGSYNC_{name}='{value}'\n" for name, value in self.settings.items())
        (self.folder / ".env").write_text("".join(lines))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGSYNC_")}
        return [sys.executable, "-m", "binlogsync.cli", *arguments], {**clean, "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run to the end; neither output contains a password."""
        command, environment = self.command(*arguments)
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=4 * TIMEOUT_S,  # a busy machine is slower than the one for which the limit was chosen
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert self.settings["MYSQL_PASSWORD"] not in done.stdout + done.stderr
        return done

    @contextmanager
    def running(self, *arguments: str, is_forked: bool = True) -> Iterator[RunningCommand]:
        """Run in the background; killed at the end of the block if still running.

        A process that is not forked starts as a user starts it.
        """
        command, environment = self.command(*arguments)
        number = next(_NUMBERS)
        out, err = self.folder / f"out{number}", self.folder / f"err{number}"
        with out.open("w") as stdout, err.open("w") as stderr:
            process: subprocess.Popen[bytes] | ForkedProcess
            if is_forked:
                process = ForkedProcess(
                    "tests.cli_deployment",
                    *arguments,
                    function="run_command",
                    imports=(f"binlogsync.cli.{arguments[0]}",),
                    cwd=self.folder,
                    env=environment,
                    stdout=stdout,
                    stderr=stderr,
                )
            else:
                process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=stdout, stderr=stderr)
        try:
            yield RunningCommand(process, out, err)
        finally:
            process.kill()
            process.wait()


def run_command(*arguments: str) -> int:
    """Run a command in a forked process, which calls this function; returns the exit code."""
    return main(arguments)


class RunningCommand:
    """A command in the background."""

    def __init__(self, process: subprocess.Popen[bytes] | ForkedProcess, out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def lines(self, count: int) -> list[dict[str, Any]]:
        """Wait for `count` envelopes on stdout."""
        wait_until(
            lambda: self._check_running() and self._out.read_text().count("\n") >= count, TIMEOUT_S, f"{count} lines"
        )
        return [json.loads(line) for line in self._out.read_text().splitlines()]

    def wait_for_message(self, text: str) -> None:
        wait_until(lambda: self._check_running() and text in self.stderr, TIMEOUT_S, text)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> str:
        """Send Ctrl-C or another signal; return stderr when the exit code is 0."""
        self.process.send_signal(number)
        assert self.process.wait(4 * TIMEOUT_S) == 0, self.stderr
        assert "Traceback" not in self.stderr
        return self.stderr

    def _check_running(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.stderr}"
        return True
