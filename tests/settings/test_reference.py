"""docs/settings.md and .env.example are those of the model, and every setting is described."""

import re
from pathlib import Path

import pytest

from binlogsync.settings import Settings
from binlogsync.settings.catalog import Setting, list_settings
from binlogsync.settings.reference import example, main, reference

ROOT = Path(__file__).parents[2]
SETTINGS = list(list_settings())
LINES = re.findall(r"^#(BINLOGSYNC_[A-Z_]+=.*)$", example(), re.MULTILINE)


@pytest.mark.parametrize(("name", "text"), [("docs/settings.md", reference()), (".env.example", example())])
def test_the_files_are_up_to_date(name: str, text: str) -> None:
    assert (ROOT / name).read_text() == text, "run: python -m binlogsync.settings.reference"


def test_the_check_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert (main([]), main(["--check"])) == (0, 0)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_described(setting: Setting) -> None:
    description = setting.field.description or ""
    assert description.endswith(".")
    assert description[0].isupper() or description[0] == "`"
    assert f"| `{setting.variable}` |" in reference()


def test_the_example_lists_every_setting_once() -> None:
    assert [line.partition("=")[0] for line in LINES] == [setting.variable for setting in SETTINGS]


def test_a_copy_of_the_example_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(example())
    assert Settings.read(tmp_path, {}) == Settings()


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("\n".join(LINES))
    examples = {setting.path: setting.note.example for setting in SETTINGS if setting.note.example}
    settings = Settings.read(tmp_path, {})
    for setting, value in settings.items():
        assert value == setting.default or setting.path in examples
    assert len(settings.origins) > 30
