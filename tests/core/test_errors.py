"""Messages: what a stranger wrote is shown, and orders nothing."""

from __future__ import annotations

import pytest

from segkit.errors import Issue, first_few, one_line, reason


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, über, 道", "plain, über, 道"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),  # the same order in one byte
        ("a\rb\tc\x00\x7f", r"a\rb\tc\x00\x7f"),
        ("\u202egnp.exe", r"\u202egnp.exe"),  # turns around what follows
        ("\ud800", r"\ud800"),  # a file's name that is no UTF-8
        ("two\nlines", "two\nlines"),
    ],
)
def test_what_is_no_letter_stands_as_its_escape(text: str, shown: str) -> None:
    assert one_line(text) == shown.replace("\n", r"\n")


def test_the_names_in_a_message_stay_in_their_line() -> None:
    assert str(Issue("kind", "a\nb.png", "what\x1b", "advice\n[table]", "x\ny")) == (
        "a\\nb.png: what\\x1b (x\\ny); advice\n[table]"
    )
    assert first_few(["a\nb", "c"]) == "a\\nb, c"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.png"), "No such file or directory"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "it is not UTF-8 text"),
        (OSError("a web page came instead of the file"), "a web page came instead of the file"),
        (ValueError("damaged"), "damaged"),
    ],
)
def test_why_a_file_cannot_be_used_is_told_without_the_systems_numbers(error: Exception, told: str) -> None:
    assert reason(error) == told
