"""A key that is brought along: any text that somebody can copy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.drafts.route_draft import RouteDraft
from daemon.core.drafts.verification_key import key_problem

BROUGHT = [
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "whsec_x2ohHeZKuHvLqVPzFJRhUIJVsvVKyxqJ",
    "0123456789abcdef",
    "a" * 256,
    "Schlüssel / 鍵 / مفتاح / 🔑 / ключ",
    "with a blank and a\u00a0hard one",
    "e\u0301" * 8,
    "{\"json\": 'quotes'}\\",
]


@pytest.mark.parametrize("text", BROUGHT)
def test_any_printable_text_of_a_sane_length_may_be_a_key(text: str) -> None:
    assert key_problem(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has 0 characters, 16 to 256 are allowed"),
        ("a" * 15, "has 15 characters"),
        ("a" * 257, "has 257 characters"),
        ("0123456789abcdef\n", "line end"),
        ("0123456789\x00abcdef", "control character"),
        ("0123456789\u2028abcdef", "line end"),
        ("0123456789\ud83dabcdef", "control character"),
        (" 0123456789abcdef", "begins or ends with a blank"),
        ("0123456789abcdef\u3000", "begins or ends with a blank"),
    ],
)
def test_what_nobody_can_copy_without_a_mistake_is_refused_with_the_reason(text: str, words: str) -> None:
    assert words in (key_problem(text) or "")


@given(st.text(min_size=17, max_size=300).filter(lambda text: key_problem(text) is not None))
def test_a_refusal_does_not_repeat_the_key(text: str) -> None:
    assert text not in (key_problem(text) or "")


def test_a_draft_does_not_show_its_key() -> None:
    draft = RouteDraft(name="-", target_url="-", event_types=("*",), verification_key="a secret of mine")
    assert "a secret of mine" not in repr(draft)
