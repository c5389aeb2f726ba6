"""The accent of the dashboard in both themes: read, checked for contrast, and extended to the colours around it.

The one thing to know: text in the accent stands on each of SURFACES, and text on the accent is ON_ACCENT, so each of
these pairs needs MIN_CONTRAST (WCAG 2.2, 1.4.3). No colour reaches it in both themes. If one colour is given, it is
that of the light theme, and the dark theme gets the same hue, lightened until it can be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Theme = Literal["light", "dark"]
Rgb = tuple[int, int, int]

MIN_CONTRAST = 4.5

# The backgrounds of style.css on which links and quiet buttons stand; a test holds them against it.
SURFACES: Mapping[Theme, Sequence[str]] = {
    "light": ("#f5f6f9", "#ffffff", "#f0f2f6"),
    "dark": ("#0f131a", "#171c26", "#10151d"),
}
ON_ACCENT: Mapping[Theme, str] = {"light": "#ffffff", "dark": "#12162b"}
_AWAY: Mapping[Theme, Rgb] = {"light": (0, 0, 0), "dark": (255, 255, 255)}
_CARD: Mapping[Theme, str] = {"light": "#ffffff", "dark": "#171c26"}

_HEX = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})")
_STEPS = 50
_HOVER, _SOFT = 0.18, 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class AccentPair:
    """The accent in the light and in the dark theme, as #rrggbb."""

    light: str
    dark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The accent and the colours made of it: under the pointer, as a background, and the text on it."""

    accent: str
    hover: str
    soft: str
    on_accent: str


def pair(given: Sequence[str]) -> AccentPair:
    """The accent of one or two colours as #rrggbb. Raises ValueError with the ratio that is too low."""
    if not 1 <= len(given) <= 2:
        raise ValueError("must be one colour such as #3b4fd8, or two: for the light and for the dark theme")
    colors = [each.lower() for each in given]
    for text in colors:
        if not _HEX.fullmatch(text):
            raise ValueError(f"{text!r} must be a colour such as #3b4fd8: # and six hexadecimal digits")
    light = colors[0]
    _check("light", light)
    dark = colors[1] if len(colors) > 1 else readable("dark", light)
    _check("dark", dark)
    return AccentPair(light=light, dark=dark)


def palette(theme: Theme, accent: str) -> Palette:
    """The colours around an accent."""
    color = _rgb(accent)
    return Palette(
        accent=accent,
        hover=_hex(_mixed(color, _AWAY[theme], _HOVER)),
        soft=_hex(_mixed(_rgb(_CARD[theme]), color, _SOFT)),
        on_accent=ON_ACCENT[theme],
    )


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((_luminance(_rgb(one)), _luminance(_rgb(other))))
    return (high + 0.05) / (low + 0.05)


def readable(theme: Theme, accent: str) -> str:
    """The colour itself if it can be read in that theme, else the nearest tint or shade of it that can."""
    for step in range(_STEPS):
        color = _hex(_mixed(_rgb(accent), _AWAY[theme], step / _STEPS))
        if _lowest(theme, color)[0] >= MIN_CONTRAST:
            return color
    return _hex(_AWAY[theme])


def _check(theme: Theme, accent: str) -> None:
    ratio, other = _lowest(theme, accent)
    if ratio < MIN_CONTRAST:
        shown = int(ratio * 100) / 100  # rounded down: 4.499 is not 4.5
        raise ValueError(
            f"{accent} has a contrast of {shown:.2f}:1 with {other} in the {theme} theme, and needs {MIN_CONTRAST}:1; "
            f"{readable(theme, accent)} would do"
        )


def _lowest(theme: Theme, accent: str) -> tuple[float, str]:
    """The lowest ratio of an accent with a colour that it meets, and that colour."""
    others = (*SURFACES[theme], palette(theme, accent).soft, ON_ACCENT[theme])
    return min((contrast(accent, other), other) for other in others)


def _luminance(color: Rgb) -> float:
    red, green, blue = (_linear(each / 255) for each in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return float(channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4)


def _mixed(color: Rgb, other: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def _rgb(text: str) -> Rgb:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _hex(color: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
