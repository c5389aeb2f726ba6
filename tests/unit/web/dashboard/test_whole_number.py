from __future__ import annotations

import pytest

from daemon.web.dashboard.html.text import whole_number


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("7", 7), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_digits_are_a_number(text: str, value: int) -> None:
    assert whole_number(text) == value


@pytest.mark.parametrize("text", ["", "x", "-1", "+1", " 1", "1.0", "1_0", "²", "١", "9" * 19, "9" * 5000, "\0"])
def test_what_is_no_number_or_too_long_for_one_is_none(text: str) -> None:
    assert whole_number(text) is None
