"""The command line without any server: help, version, shell completion, exit codes."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from binlogsync.cli import main as cli
from binlogsync.cli.arguments import EXIT_CODES, GROUPS, parse
from binlogsync.cli.arguments.command import Command
from binlogsync.cli.arguments.shell import SHELLS
from binlogsync.errors import ConfigError
from binlogsync.settings import Settings
from binlogsync.targets.mirror_options import METADATA_COLUMNS, OPTION_NAMES, MirrorOptions

ROOT = Path(__file__).parents[2]
COMMANDS = [command for group in GROUPS for command in group.commands]
_COMPLETE = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_binlogsync 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("consume",),
        ("consume", "a.b", "--limit", "0"),
        ("consume", "a.b", "--from", "last"),
        ("mirror", "shop.*"),
        ("mirror", "--to", "a.duckdb"),
        ("mirror", "orders", "--to", "a.duckdb"),
        ("mirror", "shop.*", "--exclude", "orders", "--to", "a.duckdb"),
        ("tail", "--start", "now"),
        ("tail", "--stdout", "--take-over"),
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: binlogsync" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "most"), [("", 42), ("doctor", 40), ("tail", 40), ("consume", 40), ("mirror", 60)])
def test_help_is_short(command: str, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert 5 < help_of(capsys, *([command] if command else [])).count("\n") < most


def test_help_needs_none_of_the_libraries(tmp_path: Path) -> None:
    code = "import sys, binlogsync.cli.main; print(sorted({'numba', 'nats', 'duckdb', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_help_lists_every_command_under_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    _, *sections = help_of(capsys).split("for example: ")
    assert [section.splitlines()[0] for section in sections] == [group.commands[0].example for group in GROUPS]
    for group, section in zip(GROUPS, sections, strict=True):
        listed = [line.split()[0] for line in section.partition("\n\n")[0].splitlines()[1:]]
        assert listed == [command.name for command in group.commands]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_a_command_has_an_example_that_parses(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"\nexample:\n  {command.example}\n" in help_of(capsys, command.name)
    words = shlex.split(command.example)
    if words[0] == "binlogsync":
        assert parse(words[1:]).command == command.name


def test_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    for code, meaning in EXIT_CODES.items():
        assert f"\n  {code:<12}{meaning}\n" in text


def test_the_docs_name_every_exit_code() -> None:
    page = (ROOT / "docs/command-line.md").read_text()
    for code in EXIT_CODES:
        assert f"\n| {code} | " in page


def test_mirror_has_the_options_of_mirrors() -> None:
    parsed = parse(["mirror", "shop.*", "crm.accounts", "--to", "a.duckdb"])
    assert (parsed.patterns, parsed.to, parsed.exclude, parsed.client) == (
        ["shop.*", "crm.accounts"], Path("a.duckdb"), [], "mirror",
    )  # fmt: skip
    assert [parsed.until_caught_up, parsed.deleted_at, parsed.history, parsed.together] == [False, None, False, False]
    options = ["--exclude", "shop.tmp*", "--exclude", "*.old", "--deleted-at", "gone_at", "--history", "--together"]
    parsed = parse(["mirror", "shop.*", "--to", "a.duckdb", "--until-caught-up", "--client", "dagster", *options])
    assert (parsed.exclude, parsed.deleted_at, parsed.client) == (["shop.tmp*", "*.old"], "gone_at", "dagster")
    assert [parsed.until_caught_up, parsed.history, parsed.together] == [True, True, True]


def test_mirror_has_the_policies_of_mirrors() -> None:
    parsed = parse(["mirror", "shop.*", "--to", "a.duckdb"])
    assert MirrorOptions.of(**{name: getattr(parsed, name) for name in OPTION_NAMES}) == MirrorOptions()
    options = ["--on-drop", "keep", "--key", "a", "--key", "b", "--target-schema", "raw", "--target-table", "x_{table}"]
    options += [part for name in METADATA_COLUMNS for part in ("--metadata", name)]
    parsed = parse(["mirror", "shop.*", "--to", "a.duckdb", *options, "--schema-contract", "freeze"])
    assert MirrorOptions.of(**{name: getattr(parsed, name) for name in OPTION_NAMES}) == MirrorOptions(
        on_drop="keep", key=("a", "b"), target_schema="raw", target_table="x_{table}", metadata=METADATA_COLUMNS,
        schema_contract="freeze",
    )  # fmt: skip


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"binlogsync {version('binlogsync')}\n"


def test_an_error_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Settings:
        raise ConfigError("BINLOGSYNC_X is wrong")

    monkeypatch.setattr(Settings, "read", fail)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "binlogsync: BINLOGSYNC_X is wrong\n"


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> Settings:
        raise KeyboardInterrupt

    monkeypatch.setattr(Settings, "read", interrupt)
    assert cli.main(["doctor"]) == 130


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_contains_every_command(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("BINLOGSYNC_FLUSH_ROWS=many\n")  # completion reads no settings
    monkeypatch.chdir(tmp_path)
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in COMMANDS:
        assert command.name in script
    if shutil.which(shell) is not None:
        checked = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("re",), ["rewind", "remove", "replay"]),
        (("bookmarks", "p"), ["pin"]),
        (("replay", "shop.orders", "--origin", ""), ["auto", "stream", "binlog"]),
        (("tail", "--st"), ["--stdout", "--start"]),
        (("mirror", "shop.*", "--to", "prod"), ["producer.json"]),
        (("mirror", "shop.*", "--unt"), ["--until-caught-up"]),
        (("config", ""), ["show", "import"]),
        (("config", "import", "prod"), ["producer.json"]),
    ],
)
def test_bash_completes(
    words: tuple[str, ...], completed: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cli.main(["completion", "bash"])
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "producer.json").touch()
    done = subprocess.run(
        ["bash", "-c", _COMPLETE, "bash", str(script), "binlogsync", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == completed
