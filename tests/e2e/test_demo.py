"""`make demo` as a process: the check succeeds, and no process remains after any kind of end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.server, pytest.mark.slow]


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A demo in `folder`; killed if the test leaves it running."""
    command = [sys.executable, "-m", "pipelines.demo", "--dir", str(folder), *arguments]
    pipe = subprocess.PIPE
    # Settings of the user for other servers, and an unknown variable.
    foreign = {"BINLOGSYNC_MYSQL_HOST": "production.invalid", "BINLOGSYNC_POSITIONS": "redis", "BINLOGSYNC_SORCE": "x"}
    environment = {**os.environ, **foreign}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a demo's files; processes that still run there are killed at the end of the test."""
    yield tmp_path / "demo"
    for number in processes_of(tmp_path / "demo"):
        os.kill(number, signal.SIGKILL)


def processes_of(folder: Path) -> list[int]:
    """Processes with the folder in their command line or environment."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            output = (
                (place / "cmdline").read_bytes() + (place / "environ").read_bytes() if place.name.isdigit() else b""
            )
        except OSError:
            continue  # it has ended, or is another user's
        if str(folder).encode() in output:
            found.append(int(place.name))
    return found


def working_folder_of(number: int) -> Path | None:
    """The working folder of a Dagster process; None for another process, or one that has ended."""
    try:
        is_dagster = b"dagster" in Path(f"/proc/{number}/cmdline").read_bytes()
        return Path(f"/proc/{number}/cwd").readlink() if is_dagster else None
    except OSError:
        return None


def test_a_row_reaches_its_mirror_and_no_process_remains(folder: Path) -> None:
    with demo(folder, "--check", "--port", "0") as process:
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
        assert "OK: tail STARTED after" in output
        assert "commit to mirror" in output
        for name in ("BINLOGSYNC_MYSQL_HOST", "BINLOGSYNC_POSITIONS", "BINLOGSYNC_SORCE"):
            assert name in output.split("ignored: ")[1].split("\n")[0]
        assert "demo: waiting for run" in output, "what its end waits for"
        assert "demo: killing" not in output
        assert processes_of(folder) == []
    assert "demo-check@example.com" not in output
    assert (folder / "warehouse.duckdb").exists()


@pytest.mark.exhaustive
def test_one_demo_runs_per_folder_and_ctrl_c_stops_it_cleanly(folder: Path) -> None:
    with demo(folder, "--port", "0") as process:
        address = ui_address(process)
        wait_until(lambda: ui_responds(address), 120, f"the UI at {address}")
        places = {place for number in processes_of(folder) if (place := working_folder_of(number))}
        assert folder in places, "Dagster's"
        assert [place for place in places if (place / ".env").exists()] == [], "Dagster would read it"
        with demo(folder, "--check", "--port", "0") as second:
            output, _ = second.communicate(timeout=400)
            assert second.returncode == 1, output
            assert "another demo runs in" in output
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
        assert "stopped after" in output
        assert processes_of(folder) == []


@pytest.mark.exhaustive
def test_a_check_can_be_interrupted(folder: Path) -> None:
    with demo(folder, "--check", "--port", "0") as process:
        wait_until(lambda: (folder / "dagster.log").exists(), 120, "Dagster to be started")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 1
        assert "stopped while waiting for the tail's run" in output
        assert processes_of(folder) == []


def ui_address(process: "subprocess.Popen[str]") -> str:
    """The address of the UI that the demo prints."""
    assert process.stdout is not None
    output = []
    for line in process.stdout:
        output.append(line)
        if line.startswith("Dagster's UI starts at "):
            return line.split()[4]
    raise AssertionError(f"the demo ended without an address: {''.join(output)}")


def ui_responds(address: str) -> bool:
    """True when the UI responds."""
    try:
        with urlopen(f"{address}/server_info", timeout=2) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False
