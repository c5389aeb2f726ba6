"""The logo of the dashboard: a PNG, or an SVG that only draws.

The one thing to know: an SVG is a document that may run scripts and load files. It is served from our own origin, so
one that could do either is refused, although its Content-Security-Policy would stop it. The file is read here only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

MAX_BYTES = 64 * 1024

_PNG = b"\x89PNG\r\n\x1a\n"
_SVG = "http://www.w3.org/2000/svg"
_REFUSED_NAMESPACES = ("http://www.w3.org/1999/xhtml", "http://www.w3.org/1998/Math/MathML")
_ACTIVE = {"script", "foreignobject", "handler", "listener", "iframe", "object", "embed", "audio", "video", "set"}
_ANIMATIONS = {"animate", "animatemotion", "animatetransform", "animatecolor", "discard"}
# A reference within the document, as in fill: url(#gradient).
_URL = re.compile(r"url\s*\(\s*['\"]?\s*(?!#)", re.IGNORECASE)
_INSTRUCTION = re.compile(r"<\?(?!xml\s)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logo:
    """`name` has the ending that its content has."""

    name: str
    body: bytes


def read(path: Path) -> Logo:
    """The logo in a file. Raises ValueError with what is wrong with it."""
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; name a file that this user may read") from None
    return of_bytes(body)


def of_bytes(body: bytes) -> Logo:
    """The logo with this content. Raises ValueError with what is wrong with it."""
    if len(body) > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES // 1024} KiB; make it smaller")
    if body.startswith(_PNG):
        return Logo(name="logo.png", body=body)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("must be a PNG, or an SVG in UTF-8") from None
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise ValueError("must not have a document type or entities; remove <!DOCTYPE …>")
    if _INSTRUCTION.search(text):
        raise ValueError("must not have processing instructions; remove <?…?>, save for <?xml …?>")
    try:
        root = ET.fromstring(text)  # noqa: S314 - bounded, and without entities
    except (ET.ParseError, ValueError, RecursionError):
        root = None
    if root is None or root.tag != f"{{{_SVG}}}svg":
        raise ValueError("must be a PNG, or an SVG: a document whose root is <svg xmlns=…>")
    for problem in _problems(root):
        raise ValueError(f"the SVG {problem}; a logo only draws")
    return Logo(name="logo.svg", body=body)


def _problems(root: ET.Element) -> Iterator[str]:
    """What an SVG has that a drawing does not need."""
    for element in root.iter():
        namespace, _, name = str(element.tag).rpartition("}")
        if name.lower() in _ACTIVE | _ANIMATIONS or namespace.lstrip("{") in _REFUSED_NAMESPACES:
            yield f"has <{name}>"
        for qualified, value in element.attrib.items():
            attribute = qualified.rpartition("}")[2].lower()
            if attribute.startswith("on"):
                yield f"has the event handler {attribute}"
            if attribute in ("href", "src", "base") and not value.strip().startswith("#"):
                yield f"refers to something outside of it: {attribute}={value[:60]!r}"
            if _refers_elsewhere(value):
                yield f"refers to something outside of it: {attribute}={value[:60]!r}"
        if name.lower() == "style" and _refers_elsewhere("".join(element.itertext())):
            yield "has a style sheet that refers to something outside of it"


def _refers_elsewhere(css: str) -> bool:
    """True for CSS that may load something; an escape may hide that."""
    return "@import" in css.lower() or "\\" in css or bool(_URL.search(css))
