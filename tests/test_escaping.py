"""Text of others is displayed exactly and never interpreted, in a terminal and in Markdown."""

import logging

import pytest

from binlogsync.cli.printable_formatter import PrintableFormatter
from binlogsync.errors import HandlerError
from binlogsync.escaping import fenced, markdown, printable

HOSTILE = "![i](http://x/y) [l](http://x) <img src=x> `c` | **b** _e_ # h\n```\nout"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 🐈\n\tnext", "plain é 🐈\n\tnext"),
        ("\x1b[2J\r\x07", "\\x1b[2J\\x0d\\x07"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("abc\u202edcba\u2066", "abc\\u202edcba\\u2066"),
        ("\udc80", "\\udc80"),
    ],
)
def test_no_text_moves_the_cursor_or_hides_text(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_an_error_quotes_a_value_without_its_control_characters() -> None:
    assert str(HandlerError("no customer '\x1b]0;title\x07'")) == "no customer '\\x1b]0;title\\x07'"


def test_log_lines_are_printable_with_their_traceback() -> None:
    try:
        raise ValueError("a \x1b[31m value")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "table %s", ("\x1b[2J",), (type(error), error, None))
    line = PrintableFormatter("%(message)s").format(record)
    assert "\x1b" not in line
    assert "ValueError: a \\x1b[31m value" in line


def test_every_markdown_character_is_escaped() -> None:
    shown = markdown(HOSTILE)
    assert "\n" not in shown
    assert shown.startswith("\\!\\[i\\](http\\://x/y)")
    for mark in "![]<>`|*_#":
        assert shown.count(mark) == shown.count("\\" + mark)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("shop.order_items", "shop.order_items"),
        ("www.x.y", "www\\.x.y"),
        ("_a_b_", "\\_a_b\\_"),
        ("a@b.c", "a\\@b.c"),
    ],
)
def test_ordinary_names_are_unchanged(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_a_code_fence_is_longer_than_any_inside() -> None:
    lines = fenced("a\n```\n````` x\n\x1bb").split("\n")
    assert lines[0] == lines[-1] == "``````"
    assert lines[1:-1] == ["a", "```", "````` x", "\\x1bb"]
