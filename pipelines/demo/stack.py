"""The processes of the demo: private MySQL and NATS servers, and `dagster dev` with this project.

They end with their `with` blocks. All files are in one folder, which is emptied at each start and kept afterwards, so
that the DuckDB files and logs can be inspected.
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

from binlogsync import servers
from binlogsync.errors import ConfigError
from binlogsync.private_files import make_folder, open_new
from binlogsync.servers.mysql import MySQLServer
from binlogsync.servers.nats import NATSServer
from binlogsync.settings.load import PRIVATE_SERVERS

ROOT = Path(__file__).parents[2]
SOURCE = "main"
_STOP_S = 60.0
_WORKSPACE = """load_from:
  - python_module: {{module_name: pipelines.definitions, working_directory: {root}, location_name: binlogsync}}
"""


@dataclass(frozen=True, slots=True)
class Stack:
    """The running processes, and the paths of their files."""

    mysql: MySQLServer
    nats: NATSServer
    folder: Path
    ui: str
    dagster: "subprocess.Popen[bytes]"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file of the mirrors."""
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
        """The output of `dagster dev`."""
        return self.folder / "dagster.log"


@contextmanager
def start_servers(folder: Path) -> Iterator[tuple[MySQLServer, NATSServer]]:
    """Start MySQL and NATS in an emptied folder. Raises ConfigError if another demo uses the folder."""
    make_folder(folder)
    with ExitStack() as stack:
        lock = stack.enter_context((folder / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another demo runs in {folder}; stop it, or choose another folder with --dir") from error
        for old in folder.iterdir():
            if old.name != "lock":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        mysql = stack.enter_context(servers.mysql(folder / "mysql"))
        nats = stack.enter_context(servers.nats(folder / "nats"))
        # A clean shutdown waits ten seconds for closed connections, and the data are not used again.
        stack.callback(mysql.kill)
        yield mysql, nats


@contextmanager
def dagster(
    mysql: MySQLServer, nats: NATSServer, folder: Path, port: int, report: Callable[[str], None] = lambda _: None
) -> Iterator[Stack]:
    """Start `dagster dev` with these servers and running sensors. Calls `report` with progress messages while it stops.

    `port` 0 selects 3000, or any other free port. Raises ConfigError if the port is in use.
    """
    home = folder / "dagster_home"
    make_folder(home)
    shutil.copy(ROOT / "pipelines" / "dagster.yaml", home)
    with dg.DagsterInstance.from_config(str(home)):
        pass  # creates the storage, because several processes that create it at once can corrupt it
    if port and not _is_free(port):
        raise ConfigError(
            f"port {port} is in use; stop the process that listens there, or choose another one with PORT= or --port"
        )
    port = port or (3000 if _is_free(3000) else _free_port())
    (folder / "workspace.yaml").write_text(_WORKSPACE.format(root=json.dumps(str(ROOT))))
    command = [sys.executable, "-m", "dagster", "dev", "--workspace", "workspace.yaml", "--port", str(port)]
    with open_new(folder / "dagster.log") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,  # not the checkout: there, Dagster would read the user's .env, which overrides the environment
            env=_environment(mysql, nats, folder) | {"DAGSTER_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A new process group: only this process receives Ctrl-C, and then ends the group cleanly.
            start_new_session=True,
        )
        try:
            yield Stack(mysql, nats, folder, f"http://127.0.0.1:{port}", process)
        finally:
            _end_group(process, home, report)


def ignored_variables() -> list[str]:
    """Names of BINLOGSYNC_ variables in the environment. The demo ignores them: they may name production servers."""
    ours = (name for name in os.environ if name.upper().startswith("BINLOGSYNC_"))
    return sorted(name for name in ours if name not in PRIVATE_SERVERS)


def _environment(mysql: MySQLServer, nats: NATSServer, folder: Path) -> dict[str, str]:
    """The environment of `dagster dev`: settings of the demo's servers instead of the user's settings."""
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
        "BINLOGSYNC_TABLE_LISTS": str(folder / "tables"),
        "BINLOGSYNC_START": "oldest",
        "BINLOGSYNC_INCLUDE": "treehole.*,shop.*",
        "BINLOGSYNC_REPORT_S": "10",
        "BINLOGSYNC_BOOKMARK_MINUTES": "0.15",
        "BINLOGSYNC_SENSORS": "running",
        "BINLOGSYNC_SHOW_VALUES": "yes",
        "PYTHONUNBUFFERED": "1",
    }


def _end_group(process: "subprocess.Popen[bytes]", home: Path, report: Callable[[str], None]) -> None:
    """Send SIGINT to the process group, and wait until the runs have flushed and ended.

    Then kill Dagster's services, which take 15 seconds to detect each other's end.
    """
    _signal_group(process.pid, signal.SIGINT)
    deadline = time.monotonic() + _STOP_S
    reported: set[str] = set()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        while _signal_group(process.pid, 0) and (runs := _active_runs(instance)):
            if time.monotonic() > deadline:
                report(f"killing {', '.join(runs)}, which did not end within {_STOP_S:g} s; stored data are not lost")
                break
            if not reported.issuperset(runs):
                report(f"waiting for {', '.join(runs)} to store the remaining changes")
                reported.update(runs)
            time.sleep(0.2)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait(10)


def _active_runs(instance: dg.DagsterInstance) -> list[str]:
    """Descriptions of the active runs."""
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    return sorted(f"run {run.run_id[:8]} of {run.job_name}" for run in instance.get_runs(started))


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to the group. Returns False if the group has no process."""
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
