"""A project of a user, made by create-dagster, in which binlogsync is the wheel that is built from this tree.

Its environment is its own; the packages that it does not have itself are those of the environment of the tests.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from binlogsync.errors import BinlogSyncError
from binlogsync.targets.duckdb.file import DuckFile
from tests.databases import FreshDatabase

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-project.md").read_text()
DG = "import sys\nfrom dagster_dg_cli.cli import main\nif __name__ == '__main__':\n    sys.argv[0] = 'dg'\n    main()\n"
CREATE = "from create_dagster.cli import main\nmain()"


UV = Path(sys.executable).with_name("uv")


def block(language: str, number: int = 0, heading: str = "") -> str:
    """A fenced block of the page, after this heading, without its indentation."""
    _, _, page = PAGE.partition(heading) if heading else ("", "", PAGE)
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page, re.DOTALL | re.MULTILINE)
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

    @property
    def warehouse(self) -> Path:
        """The DuckDB file of the page."""
        return self.folder / ".binlogsync" / "warehouse.duckdb"

    def write_component(self, mysql: FreshDatabase, url: str, *lines: str) -> None:
        """Scaffold the component of the page, and write its files, with further lines of attributes."""
        self.dg(block("bash").splitlines()[2])
        [written] = self.folder.rglob("defs.yaml")
        assert "{{ secret(''MYSQL_PASSWORD'') }}" in written.read_text()
        page = block("yaml").replace("source: main", f"source: {mysql.name}").replace("shop.*", f"{mysql.name}.*")
        written.write_text(page + "".join(f"  {line}\n" for line in lines))
        values = {
            "MYSQL_HOST": mysql.server.host,
            "MYSQL_PORT": str(mysql.server.port),
            "MYSQL_PASSWORD": mysql.server.cdc_password,
            "NATS_URL": url,
        }
        names = [line.partition("=")[0] for line in block("ini").splitlines()]
        (self.folder / ".env").write_text("".join(f"{each}={values[each]}\n" for each in names))

    def install(self, *packages: str) -> None:
        """Install packages, and what they require beside the environment of the tests, whose versions stay."""
        plan = self.run(UV, "pip", "install", "--dry-run", "--python", sys.executable, *packages)
        missing = re.findall(r"^ \+ (\S+)", plan, re.MULTILINE)
        self.run(UV, "pip", "install", "--quiet", "--no-deps", "--python", self.python, *missing)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query on the warehouse; none while it cannot be read, or has no such table."""
        if not self.warehouse.exists():
            return []
        try:
            with DuckFile(self.warehouse).transaction() as connection:
                return connection.execute(sql).fetchall()
        except BinlogSyncError:
            return []

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
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    return OwnProject(folder, environment | {"DAGSTER_HOME": str(home), "PATH": path})


def install_wheel(project: OwnProject, folder: Path) -> None:
    """Build the wheel, and install it as pip does; the dependencies are there."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    [wheel] = folder.glob("*.whl")
    project.run(UV, "pip", "install", "--quiet", "--no-deps", "--offline", "--python", project.python, wheel)
