"""The demo's processes: MySQL and NATS of its own, and `dagster dev` over this project; all end with the block.

Everything it writes lies in one folder, made anew at each start and left there afterwards, so that the DuckDB files and
the logs can be looked at.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from binlogsync import embedded
from binlogsync.embedded.mysql import MySQLServer
from binlogsync.embedded.nats import NATSServer
from binlogsync.errors import ConfigError
from binlogsync.private_files import make_folder, open_new
from binlogsync.variables import PRIVATE_SERVERS

ROOT = Path(__file__).parents[2]
SOURCE = "main"
_STOP_S = 10.0
_WORKSPACE = """load_from:
  - python_module: {{module_name: pipelines.definitions, working_directory: {root}, location_name: binlogsync}}
"""


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and where its files are."""

    mysql: MySQLServer
    nats: NATSServer
    folder: Path
    ui: str
    dagster: "subprocess.Popen[bytes]"

    @property
    def warehouse(self) -> Path:
        """The mirrors."""
        return self.folder / "warehouse.duckdb"

    @property
    def audit(self) -> Path:
        """The audit log."""
        return self.folder / "audit.duckdb"

    @property
    def positions(self) -> Path:
        """The position store."""
        return self.folder / "positions.db"

    @property
    def dagster_home(self) -> Path:
        """Dagster's storage."""
        return self.folder / "dagster_home"

    @property
    def dagster_log(self) -> Path:
        """What `dagster dev` prints."""
        return self.folder / "dagster.log"


@contextmanager
def servers(folder: Path) -> Iterator[tuple[MySQLServer, NATSServer]]:
    """A fresh folder with MySQL and NATS in it. Raises ConfigError while another demo uses the folder."""
    make_folder(folder)
    with ExitStack() as stack:
        lock = stack.enter_context((folder / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"a demo runs in {folder} already; stop it, or choose another folder with --dir"
            ) from error
        for old in folder.iterdir():
            if old.name != "lock":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        mysql = stack.enter_context(embedded.mysql(folder / "mysql"))
        nats = stack.enter_context(embedded.nats(folder / "nats"))
        # A clean shutdown waits ten seconds for connections of processes that are gone; these data serve this run only.
        stack.callback(mysql.kill)
        yield mysql, nats


@contextmanager
def dagster(
    mysql: MySQLServer, nats: NATSServer, folder: Path, port: int, say: Callable[[str], None] = lambda _: None
) -> Iterator[Stack]:
    """`dagster dev` over these servers, sensors running; `say` tells what its end waits for.

    `port` 0 takes 3000 when it is free, else any. Raises ConfigError for a port that is taken.
    """
    home = folder / "dagster_home"
    make_folder(home)
    shutil.copy(ROOT / "dagster.yaml", home)
    with dg.DagsterInstance.from_config(str(home)):
        pass  # makes the storage, before several processes find it missing at once and spoil it
    if port and not _is_free(port):
        raise ConfigError(f"port {port} is taken; stop what listens there, or choose another with PORT= or --port")
    port = port or (3000 if _is_free(3000) else _free_port())
    (folder / "workspace.yaml").write_text(_WORKSPACE.format(root=json.dumps(str(ROOT))))
    command = [sys.executable, "-m", "dagster", "dev", "--workspace", "workspace.yaml", "--port", str(port)]
    with open_new(folder / "dagster.log") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,  # not the checkout: Dagster would read the user's .env there, and let it win
            env=_environment(mysql, nats, folder) | {"DAGSTER_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A group of its own: Ctrl-C comes to us alone, and we end the group in good order.
            start_new_session=True,
        )
        try:
            yield Stack(mysql, nats, folder, f"http://127.0.0.1:{port}", process)
        finally:
            _end_group(process, home, say)


def ignored_variables() -> list[str]:
    """Names of the user's settings in the environment, which the demo does without: they may lead to production."""
    ours = (name for name in os.environ if name.upper().startswith("BINLOGSYNC_"))
    return sorted(name for name in ours if name not in PRIVATE_SERVERS)


def _environment(mysql: MySQLServer, nats: NATSServer, folder: Path) -> dict[str, str]:
    """The variables of .env.example, pointed at the demo's servers; none of the user's own."""
    ignored = {*ignored_variables(), *(name for name in os.environ if name.startswith("DAGSTER_"))}
    return {name: value for name, value in os.environ.items() if name not in ignored} | {
        "BINLOGSYNC_SOURCE": SOURCE,
        "BINLOGSYNC_MYSQL_HOST": mysql.host,
        "BINLOGSYNC_MYSQL_PORT": str(mysql.port),
        "BINLOGSYNC_MYSQL_USER": mysql.cdc_user,
        "BINLOGSYNC_MYSQL_PASSWORD": mysql.cdc_password,
        "BINLOGSYNC_NATS_URL": nats.url,
        "BINLOGSYNC_POSITIONS_PATH": str(folder / "positions.db"),
        "BINLOGSYNC_WAREHOUSE_PATH": str(folder / "warehouse.duckdb"),
        "BINLOGSYNC_AUDIT_PATH": str(folder / "audit.duckdb"),
        "BINLOGSYNC_START": "oldest",
        "BINLOGSYNC_INCLUDE": "treehole.*,shop.*",
        "BINLOGSYNC_REPORT_S": "10",
        "BINLOGSYNC_BOOKMARK_MINUTES": "0.15",
        "BINLOGSYNC_SENSORS": "running",
        "BINLOGSYNC_SHOW_VALUES": "yes",
        "PYTHONUNBUFFERED": "1",
    }


def _end_group(process: "subprocess.Popen[bytes]", home: Path, say: Callable[[str], None]) -> None:
    """Ctrl-C for all of them. Once the runs have flushed and ended there is nothing to wait for: Dagster's own services
    take a quarter of a minute to notice each other's end, so they are killed.
    """
    _signal_group(process.pid, signal.SIGINT)
    deadline = time.monotonic() + _STOP_S
    said: set[str] = set()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        while _signal_group(process.pid, 0) and (runs := _under_way(instance)):
            if time.monotonic() > deadline:
                say(f"killing what did not end within {_STOP_S:g} s: {', '.join(runs)}; nothing that is stored is lost")
                break
            if not said.issuperset(runs):
                say(f"waiting for {', '.join(runs)} to store what is left")
                said.update(runs)
            time.sleep(0.2)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait(10)


def _under_way(instance: dg.DagsterInstance) -> list[str]:
    """Runs that have begun and not ended."""
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    return sorted(f"run {run.run_id[:8]} of {run.job_name}" for run in instance.get_runs(started))


def _signal_group(group: int, number: int) -> bool:
    """True when the group has a process."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
