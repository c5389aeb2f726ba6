"""The contrast of each pair of colours in the dashboard's stylesheet, in both themes, by the formula of WCAG 2.2.

The pairs are repeated here on purpose: a pair that is not listed must not be used. axe-core checks the rendered pages in
tests/browser.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

STYLE = Path(__file__).parents[4] / "daemon/web/dashboard/static/style.css"

TEXT_RATIO = 4.5  # 1.4.3, for text of any size
SHAPE_RATIO = 3.0  # 1.4.11, for borders of controls, focus rings and graphics

GROUNDS = ("page", "surface", "sunken")
TONES = ("ok", "warn", "bad", "info", "off")
TEXTS = [
    *product(("text", "muted", "accent", "accent-hover", *TONES), GROUNDS),
    *((tone, f"{tone}-soft") for tone in (*TONES, "accent")),
    *product(("text",), [f"{tone}-soft" for tone in (*TONES, "accent")]),
    ("on-accent", "accent"),
    ("on-accent", "accent-hover"),
    ("muted", "off-soft"),
    ("accent-hover", "accent-soft"),
]
SHAPES = [*product(("control", "accent"), GROUNDS), *product(("accent",), [f"{tone}-soft" for tone in TONES])]


def themes() -> dict[str, dict[str, tuple[float, float, float]]]:
    """Red, green and blue from 0 to 1, by theme and property."""
    style = STYLE.read_text()
    light, dark = re.findall(r":root\s*\{(.*?)\}", style, re.DOTALL)[:2]
    assert "prefers-color-scheme: dark" in style.split(light)[1].split(dark)[0]
    return {"light": colours(light), "dark": colours(light) | colours(dark)}


def colours(block: str) -> dict[str, tuple[float, float, float]]:
    found = re.findall(r"--([\w-]+):\s*#([0-9a-fA-F]{6});", block)
    return {name: tuple(int(code[at : at + 2], 16) / 255 for at in (0, 2, 4)) for name, code in found}  # type: ignore[misc] # three of them


def luminance(colour: tuple[float, float, float]) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_black_on_white_and_a_known_grey_have_the_contrast_that_the_standard_says() -> None:
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    grey = (0x77 / 255,) * 3
    assert contrast(grey, (1, 1, 1)) == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_every_background(theme: str) -> None:
    palette = themes()[theme]
    ratios = {f"{text} on {ground}": contrast(palette[text], palette[ground]) for text, ground in TEXTS}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < TEXT_RATIO} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_borders_of_controls_and_the_focus_ring_can_be_seen(theme: str) -> None:
    palette = themes()[theme]
    ratios = {f"{shape} on {ground}": contrast(palette[shape], palette[ground]) for shape, ground in SHAPES}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < SHAPE_RATIO} == {}


def test_both_themes_name_the_same_colours() -> None:
    style = STYLE.read_text()
    light, dark = (colours(block) for block in re.findall(r":root\s*\{(.*?)\}", style, re.DOTALL)[:2])
    assert light.keys() == dark.keys()


def test_colours_are_named_in_one_place_only() -> None:
    style = STYLE.read_text()
    rules = re.sub(r":root\s*\{.*?\}", "", style, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[^{}]*[;}])", rules) == []
