"""The accent of the dashboard: readable in both themes, or refused with the ratio."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemon.config import accents
from daemon.config.accents import MIN_CONTRAST, ON_ACCENT, SURFACES, AccentPair, Theme, contrast, pair, palette

STYLE = (Path(accents.__file__).parents[1] / "web" / "dashboard" / "static" / "style.css").read_text()


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#3b4fd8", "#3b4fd8") == 1


@pytest.mark.parametrize("given", ["#3b4fd8", "#0B5FFF", "#b3261e", "#13663b", "#000000", "#5f2c82"])
def test_one_colour_gets_a_tint_for_the_dark_theme(given: str) -> None:
    found = pair([given])
    assert found.light == given.lower()
    themes: tuple[tuple[Theme, str], ...] = (("light", found.light), ("dark", found.dark))
    for theme, accent in themes:
        colors = palette(theme, accent)
        for other in (*SURFACES[theme], colors.soft, colors.on_accent):
            assert contrast(accent, other) >= MIN_CONTRAST, (theme, other)
        assert contrast(colors.hover, colors.on_accent) >= MIN_CONTRAST


def test_two_colours_are_those_of_the_two_themes() -> None:
    assert pair(["#3b4fd8", "#a3b0ff"]) == AccentPair(light="#3b4fd8", dark="#a3b0ff")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["#ffff00"], r"#ffff00 has a contrast of 0?1\.\d\d:1 with #\w{6} in the light theme, and needs 4\.5:1; #\w{6} would do"),
        (["#3b4fd8", "#3b4fd8"], r"#3b4fd8 has a contrast of \d\.\d\d:1 with #\w{6} in the dark theme, and needs 4\.5:1"),
        (["blue"], "'blue' must be a colour such as #3b4fd8"),
        (["#12345"], "must be a colour"),
        (["#3b4fd8; } body { display: none"], "must be a colour"),
        ([], "must be one colour"),
        (["#000000"] * 3, "must be one colour"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(given: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pair(given)


def test_the_colour_that_would_do_does() -> None:
    with pytest.raises(ValueError, match="would do") as refused:
        pair(["#ffff00"])
    suggested = re.search(r"(#\w{6}) would do", str(refused.value))
    assert suggested is not None
    assert pair([suggested[1]]).light == suggested[1]


def test_the_surfaces_are_those_of_the_style() -> None:
    light, dark = re.findall(r":root \{(.*?)\n *\}", STYLE, re.DOTALL)[:2]
    themes: tuple[tuple[Theme, str], ...] = (("light", light), ("dark", dark))
    for theme, block in themes:
        colors = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        assert tuple(colors[name] for name in ("page", "surface", "sunken")) == SURFACES[theme]
        assert colors["on-accent"] == ON_ACCENT[theme]
