"""Which widths of a page differ in more than its grid: the tests of screens look at one of those that do not."""

from __future__ import annotations

import re
from pathlib import Path

STYLE = Path(__file__).parents[4] / "daemon/web/dashboard/static/style.css"

# At 16 px of a rem: 640 px is 200 % zoom of 1280 px, where the layout of phones begins.
_BEGINS_REM = 40.0

_MEDIA = re.compile(r"@media[^{]*\((?:max|min)-width:\s*([\d.]+)rem\)[^{]*\{((?:[^{}]*\{[^{}]*\})*[^{}]*)\}")


def test_below_640_pixels_only_the_grid_of_lists_changes() -> None:
    narrower = [block for width, block in _MEDIA.findall(STYLE.read_text()) if float(width) < _BEGINS_REM]
    assert narrower
    changed = {name for block in narrower for rule in re.findall(r"\{[^{}]*\}", block) for name in _names(rule)}
    assert changed <= {"grid-template-columns", "gap", "margin-bottom"}


def _names(rule: str) -> set[str]:
    return {
        declaration.partition(":")[0].strip() for declaration in rule.strip("{} \n").split(";") if declaration.strip()
    }
