"""Requests to the dashboard as a browser sends them, and answers as pages with selectors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from bs4 import BeautifulSoup, Tag

from tests.support.web.application import App

# Headers of a browser: it accepts HTML, and the form is sent by one of our own pages.
BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Site": "same-origin"}
PART = BROWSER | {"X-Fragment": "1"}

# How a moment begins in a sentence.
A_DATE = r"\d{1,2} [A-Z][a-z]{2} 20\d\d, "

# Literal on purpose: add each new page for operators here.
OPERATOR_PAGES = [
    "/operator",
    "/operator/tokens",
    "/operator/tokens/{token}/revoke",
    "/operator/event-types",
    "/operator/event-types/new",
    "/operator/event-types/list",
    "/operator/event-types/{name}",
    "/operator/event-types/{name}/remove",
    "/operator/audits",
    "/operator/audits/{audit}",
    "/operator/status",
    "/operator/failing",
    "/operator/refusals",
    "/operator/find",
]


@dataclass(kw_only=True)
class Page:
    """An answer with HTML; `location` is the target of a redirect."""

    status: int
    headers: Mapping[str, str]
    html: str
    soup: BeautifulSoup

    @property
    def location(self) -> str:
        return self.headers["Location"]

    @property
    def text(self) -> str:
        """The visible text, with single spaces."""
        return _read(self.soup)

    def one(self, selector: str) -> Tag:
        """The only element that matches."""
        (found,) = self.soup.select(selector)
        return found

    def all(self, selector: str) -> list[Tag]:
        return list(self.soup.select(selector))

    def words(self, selector: str) -> list[str]:
        """The texts of all elements that match, with single spaces."""
        return [_read(each) for each in self.soup.select(selector)]

    def form_data(self, form: str = "main form") -> dict[str, list[str]]:
        """The fields that the form would send unchanged, without a button."""
        fields: dict[str, list[str]] = {}
        for each in self.one(form).select("input[name], select[name], textarea[name]"):
            if (value := _value(each)) is not None:
                fields.setdefault(str(each["name"]), []).append(value)
        return fields


async def get(app: App, path: str, *, headers: Mapping[str, str] = BROWSER) -> Page:
    """A page; redirects are not followed."""
    return await _ask(app, "GET", path, headers=headers)


async def get_all(app: App, path: str, *, most: int = 20) -> list[Page]:
    """All pages of a list, by their links to the next page."""
    pages = [await get(app, path)]
    while links := pages[-1].all("a[rel=next]"):
        assert len(pages) < most, "the list never ends"
        pages.append(await get(app, str(links[0]["href"])))
    assert [page.status for page in pages] == [200] * len(pages)
    return pages


async def post(
    app: App, path: str, fields: Mapping[str, str | list[str]] | None = None, *, headers: Mapping[str, str] = BROWSER
) -> Page:
    """The answer to a form; redirects are not followed."""
    return await _ask(
        app,
        "POST",
        path,
        data=urlencode(fields or {}, doseq=True).encode(),
        headers={**headers, "Content-Type": "application/x-www-form-urlencoded"},
    )


async def _ask(app: App, method: str, path: str, **more: object) -> Page:
    answer = await app.ask(method, path, allow_redirects=False, **more)
    return Page(
        status=answer.status,
        headers=answer.headers,
        html=answer.text,
        soup=BeautifulSoup(answer.text, "html.parser"),
    )


def _value(field: Tag) -> str | None:
    """The value that a field sends; None if it sends none."""
    if field.has_attr("disabled"):
        return None
    if field.name == "textarea":
        return field.get_text().removeprefix("\n")
    if field.name == "select":
        chosen = field.select_one("option[selected]") or field.select_one("option")
        return None if chosen is None else str(chosen.get("value", chosen.get_text()))
    if field.get("type") in ("checkbox", "radio"):
        return str(field.get("value", "on")) if field.has_attr("checked") else None
    return None if field.get("type") == "submit" else str(field.get("value", ""))


def _read(element: Tag) -> str:
    """The text with single spaces, and no space before a punctuation mark that follows an element."""
    return re.sub(r" (?=[.,:;])", "", " ".join(element.get_text(" ").split()))
