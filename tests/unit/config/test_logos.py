"""The logo of the dashboard: a PNG or an SVG that only draws; anything that could do more is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.config import logos

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 8 8">'


def svg(content: str, *, head: str = HEAD) -> bytes:
    return f"{head}{content}</svg>".encode()


@pytest.mark.parametrize(
    "content",
    [
        '<circle cx="4" cy="4" r="4"/>',
        '<defs><linearGradient id="a"/></defs><path fill="url(#a)" d="M0 0h8"/><use href="#b" xlink:href="#b"/>',
        "<style>.a { fill: #fff }</style><title>Shop</title><!-- drawn by hand -->",
        '<g xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape" inkscape:label="Layer 1"/>',
    ],
)
def test_a_drawing_is_a_logo(content: str) -> None:
    assert logos.of_bytes(svg(content)).name == "logo.svg"
    assert logos.of_bytes(b'<?xml version="1.0" encoding="UTF-8"?>\n' + svg(content)).name == "logo.svg"


def test_a_png_is_a_logo() -> None:
    assert logos.of_bytes(PNG).name == "logo.png"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("<script>alert(1)</script>", "has <script>"),
        ('<x:script xmlns:x="http://www.w3.org/2000/svg">alert(1)</x:script>', "has <script>"),
        ("<foreignObject/>", "has <foreignObject>"),
        ('<body xmlns="http://www.w3.org/1999/xhtml"/>', "has <body>"),
        ('<circle r="4" onload="alert(1)"/>', "has the event handler onload"),
        ('<a href="javascript:alert(1)"><circle r="4"/></a>', "refers to something outside"),
        ('<image href="https://evil.example.com/x.png"/>', "refers to something outside"),
        ('<image xlink:href="data:image/svg+xml,x"/>', "refers to something outside"),
        ('<use href="other.svg#a"/>', "refers to something outside"),
        ('<path fill="url(https://evil.example.com/#a)"/>', "refers to something outside"),
        ('<path style="fill: URL( &quot;//evil.example.com/&quot; )"/>', "refers to something outside"),
        ("<style>@import 'https://evil.example.com/x.css';</style>", "style sheet that refers"),
        ("<style>@im<!-- -->port 'x';</style>", "style sheet that refers"),
        (r"<style>@\69mport 'x';</style>", "style sheet that refers"),
        ("<style>a { background: url(//evil.example.com) }</style>", "style sheet that refers"),
        ('<animate attributeName="href" to="javascript:alert(1)"/>', "has <animate>"),
        ('<set attributeName="onclick" to="alert(1)"/>', "has <set>"),
    ],
)
def test_an_svg_that_does_more_than_draw_is_refused(content: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        logos.of_bytes(svg(content))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "must be a PNG, or an SVG"),
        (b"GIF89a", "must be a PNG, or an SVG"),
        (b"\xff\xd8\xff\xe0", "must be a PNG, or an SVG"),
        (b"<svg/>", "must be a PNG, or an SVG"),
        (b"<html><svg/></html>", "must be a PNG, or an SVG"),
        (svg("<circle>"), "must be a PNG, or an SVG"),
        (svg("").decode().encode("utf-16"), "must be a PNG, or an SVG"),
        (b'<!DOCTYPE svg [<!ENTITY a "x">]>' + svg("&a;"), "must not have a document type"),
        (b'<?xml-stylesheet href="https://evil.example.com/x.css"?>' + svg(""), "processing instructions"),
        (PNG + bytes(64 * 1024), "at most 64 KiB"),
        (svg(" " * 64 * 1024), "at most 64 KiB"),
    ],
)
def test_what_is_no_logo_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        logos.of_bytes(body)


def test_a_file_that_cannot_be_read_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"logo\.svg: No such file"):
        logos.read(tmp_path / "logo.svg")
    with pytest.raises(ValueError, match="name a file"):
        logos.read(tmp_path)
