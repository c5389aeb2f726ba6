"""Free texts: every script passes, and what could make a text show something else is named."""

from __future__ import annotations

import pytest

from daemon.core import texts

WRITTEN = [
    "Bestellungen",
    "注文\u3000通知",
    "Commandes\u00a0: toutes",
    "👨\u200d👩\u200d👧 shop 🏴\U000e0067\U000e0062\U000e007f",
    "سفارش\u200cها",
    "הזמנות\u200f (א)",
    "ब्\u200dयू",
    "a\u00adb\ufeff\u2060",
]
REFUSED = {
    "a\nb": "control characters: remove U+000A",
    "a\x00": "control characters: remove U+0000",
    "\x7f": "control characters: remove U+007F",
    "a\x85b": "control characters: remove U+0085",
    "evil\u202egpj.exe": "reorder a text: remove U+202E, right-to-left override",
    "\u202a": "remove U+202A, left-to-right embedding",
    "\u2066x": "remove U+2066, left-to-right isolate",
    "x\u2069": "remove U+2069, pop directional isolate",
    "\ud800": "remove U+D800",
}


@pytest.mark.parametrize("text", WRITTEN, ids=ascii)
def test_a_text_of_any_script_is_accepted_and_shown_as_it_is(text: str) -> None:
    assert texts.problem(text) is None
    assert not texts.is_blank(text)
    assert texts.on_one_line(text) == text


@pytest.mark.parametrize(("text", "says"), REFUSED.items(), ids=ascii)
def test_what_controls_or_reorders_is_refused_by_its_name_and_escaped_on_a_terminal(text: str, says: str) -> None:
    assert says in (texts.problem(text) or "")
    assert texts.on_one_line(text) == text.encode("unicode_escape").decode()


def test_texts_of_several_lines_may_have_line_ends_and_tabs() -> None:
    assert texts.problem("a\tb\r\nc\n", has_lines=True) is None
    assert "U+000B" in (texts.problem("a\n\x0b", has_lines=True) or "")


@pytest.mark.parametrize("text", ["", " ", "\u3000\u00a0", "\u200b\u200d\ufeff", "\u200f"], ids=ascii)
def test_a_text_of_which_nothing_can_be_seen_is_blank(text: str) -> None:
    assert texts.is_blank(text)
