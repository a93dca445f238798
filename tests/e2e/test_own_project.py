"""docs/own-project.md is executed: a project in an empty folder, the wheel, one YAML file, one `.env`, a mirrored row.

The project has an environment of its own, whose dependencies are those of the environment of the tests, and whose
binlogsync is the wheel that is built from this tree.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.errors import BinlogSyncError
from binlogsync.targets.duckdb.file import DuckFile
from tests.databases import FreshDatabase
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-project.md").read_text()
DG = "import sys\nfrom dagster_dg_cli.cli import main\nsys.argv[0] = 'dg'\nmain()\n"
CREATE = "from create_dagster.cli import main\nmain()"


def block(language: str, number: int = 0) -> str:
    """A fenced block of the page, without its indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", PAGE, re.DOTALL | re.MULTILINE)
    indent, text = found[number]
    return "\n".join(line.removeprefix(indent) for line in text.splitlines()) + "\n"


@dataclass(frozen=True, slots=True)
class OwnProject:
    """A project of a user: its folder, and the environment of its commands."""

    folder: Path
    environment: dict[str, str]

    @property
    def python(self) -> Path:
        return self.folder / ".venv" / "bin" / "python"

    def run(self, *command: str | Path) -> str:
        """The output of a command in the project."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def dg(self, line: str) -> str:
        """The output of a line of the page that calls dg."""
        assert line.startswith("dg ")
        return self.run(self.folder / ".venv" / "bin" / "dg", *line.split()[1:])

    @contextmanager
    def dev(self) -> Iterator[Path]:
        """`dg dev` while the block runs; its log."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        log = self.folder / "dev.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.folder / ".venv" / "bin" / "dg", "dev", "--port", str(port)],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                yield log
            finally:
                os.killpg(process.pid, signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(120)
                with suppress(ProcessLookupError):  # what did not end by itself
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def project(tmp_path: Path) -> OwnProject:
    """An empty project of create-dagster with an environment that has no binlogsync yet."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BINLOGSYNC_", "DAGSTER_", "PYTHON", "VIRTUAL_ENV"))
    }
    environment |= {"DAGSTER_DISABLE_TELEMETRY": "yes", "COLUMNS": "200"}
    subprocess.run(
        [sys.executable, "-c", CREATE, "project", "my-project", "--no-uv-sync"],
        cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    folder = tmp_path / "my-project"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True, timeout=120)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / ".venv")}))
    assert packages.is_dir()
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{folder / 'src'}\n")
    script = folder / ".venv" / "bin" / "dg"
    script.write_text(f"#!{folder / '.venv' / 'bin' / 'python'}\n{DG}")
    script.chmod(0o755)
    home = folder / ".dagster_home"
    home.mkdir()
    return OwnProject(folder, environment | {"DAGSTER_HOME": str(home)})


def install_wheel(project: OwnProject, folder: Path) -> None:
    """Build the wheel, and install it as pip does; the dependencies are there."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    [wheel] = folder.glob("*.whl")
    uv = Path(sys.executable).with_name("uv")
    project.run(uv, "pip", "install", "--quiet", "--no-deps", "--offline", "--python", project.python, wheel)


def count_rows(warehouse: Path, database: str) -> int:
    """Rows of the mirror `orders`; 0 while there is none."""
    if not warehouse.exists():
        return 0
    try:
        with DuckFile(warehouse).transaction() as connection:
            found = connection.execute(
                "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = 'orders'", [database]
            ).fetchall()
            return int(connection.execute(f"SELECT count(*) FROM {database}.orders").fetchall()[0][0]) if found else 0
    except BinlogSyncError:
        return 0


@pytest.mark.exhaustive
def test_a_row_is_mirrored_in_a_project_of_a_user(
    project: OwnProject, mysql: FreshDatabase, nats_server: servers.NATSServer, tmp_path: Path
) -> None:
    mysql.execute("CREATE TABLE orders (id INT PRIMARY KEY COMMENT 'the key', total DECIMAL(10,2))")
    mysql.execute("INSERT INTO orders VALUES (1, 1.50)")
    begun = time.monotonic()
    install_wheel(project, tmp_path / "dist")
    where = project.run(project.python, "-c", "import binlogsync, dagster_binlogsync; print(binlogsync.__file__)")
    assert where.startswith(str(project.folder))
    _, listing, scaffold = block("bash").splitlines()
    assert "dagster_binlogsync.BinlogSyncComponent" in project.dg(listing)
    project.dg(scaffold)
    [written] = project.folder.rglob("defs.yaml")
    assert "{{ secret(''MYSQL_PASSWORD'') }}" in written.read_text()

    name = mysql.name
    written.write_text(block("yaml").replace("source: main", f"source: {name}").replace("shop.*", f"{name}.*"))
    values = {
        "MYSQL_HOST": mysql.server.host,
        "MYSQL_PORT": str(mysql.server.port),
        "MYSQL_PASSWORD": mysql.server.cdc_password,
        "NATS_URL": nats_server.url,
    }
    names = [line.partition("=")[0] for line in block("ini").splitlines()]
    (project.folder / ".env").write_text("".join(f"{each}={values[each]}\n" for each in names))
    *commands, dev = block("bash", 1).splitlines()
    assert dev == "dg dev"
    outputs = {command: project.dg(command) for command in commands}
    assert f"tables/{name}/{name}/orders" in outputs["dg list defs"]
    assert f"consume_{name}" in outputs["dg list defs"]
    assert mysql.server.cdc_password not in "".join(outputs.values())

    warehouse = project.folder / ".binlogsync" / "warehouse.duckdb"
    with project.dev() as log:
        wait_until(lambda: count_rows(warehouse, name) == 1, 120, f"the existing row; see {log}")
        seconds = time.monotonic() - begun
        mysql.execute("INSERT INTO orders VALUES (2, 2.50)")
        wait_until(lambda: count_rows(warehouse, name) == 2, 90, f"the inserted row; see {log}")
    text = log.read_text()
    assert "will not be used" not in text
    assert mysql.server.cdc_password not in text
    sys.stderr.write(f"\nfrom installing the wheel to the first mirrored row: {seconds:.0f} s\n")


def test_the_yaml_of_the_page_is_short() -> None:
    assert len(block("yaml").splitlines()) <= 11
