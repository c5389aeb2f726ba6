"""What a client would rather have: the values of Accept and Accept-Encoding with their weights (RFC 9110, 12.4.2)."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web


def preferences(request: web.Request, header: str) -> Mapping[str, float]:
    """The values that a header names, in lower case → how much each is wanted: 1 if it does not say, 0 for never."""
    found: dict[str, float] = {}
    for part in ",".join(request.headers.getall(header, [])).split(","):
        name, *parameters = (text.strip().lower() for text in part.split(";"))
        found[name] = next((_number(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
