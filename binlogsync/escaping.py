"""Text of others (row values, names, messages of exceptions) made safe for where a person reads it. Pure.

A row value can hold what a terminal or a Markdown page takes for an instruction: escape sequences that rewrite the
screen, an image that makes the reader's browser ask a foreign server, a link with a false name. Values in the stream,
in mirrors and in the audit log are never touched; this is for log lines, error messages and pages only.
"""

from __future__ import annotations

import re

# Control characters but newline and tab; what reverses the direction of text; separators that end a line elsewhere;
# surrogates, which cannot be encoded.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# What acts inside a line of Markdown, links that are written out included. Nothing more: lists show some descriptions
# as plain text, where every backslash is seen, and names such as shop.order_items need none.
_MARKDOWN = re.compile(r"[\\`*\[\]<>!|~&#@$]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.", re.IGNORECASE)
_BACKTICKS = re.compile(r"`+")


def printable(text: str) -> str:
    r"""The text with every character that moves a cursor or hides text written as \x1b or \u202e; lines stay lines."""
    return _UNPRINTABLE.sub(_escape, text)


def markdown(text: str) -> str:
    """The text, in one line, for a Markdown page that shows it as it is: no markup, image, link or HTML in it acts."""
    return _MARKDOWN.sub(lambda match: "\\" + match[0], " ".join(printable(text).split()))


def fenced(text: str) -> str:
    """The text as a code block of Markdown, in a fence longer than any that is in the text."""
    longest = max((len(match) for match in _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{printable(text)}\n{fence}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
