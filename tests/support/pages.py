"""The dashboard's pages, as a person would find things in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from bs4 import BeautifulSoup, Tag

from tests.support.web import Door

# What a browser says of itself: that it wants a page, and that one of our own pages sends the form.
BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Site": "same-origin"}
PART = BROWSER | {"X-Fragment": "1"}

# Literal on purpose: a page that is added for operators is to be added here.
OPERATOR_PAGES = [
    "/operator",
    "/operator/tokens",
    "/operator/tokens/{token}/revoke",
    "/operator/event-types",
    "/operator/event-types/new",
    "/operator/event-types/list",
    "/operator/event-types/{name}",
    "/operator/event-types/{name}/remove",
    "/operator/status",
]


@dataclass(kw_only=True)
class Page:
    """An answer that is a page; `location` is where it leads on to."""

    status: int
    headers: Mapping[str, str]
    html: str
    soup: BeautifulSoup

    @property
    def location(self) -> str:
        return self.headers["Location"]

    @property
    def text(self) -> str:
        """What is to be read, with single spaces."""
        return _read(self.soup)

    def one(self, selector: str) -> Tag:
        """The only element that fits."""
        (found,) = self.soup.select(selector)
        return found

    def all(self, selector: str) -> list[Tag]:
        return list(self.soup.select(selector))

    def words(self, selector: str) -> list[str]:
        """The texts of all elements that fit, with single spaces."""
        return [_read(each) for each in self.soup.select(selector)]

    def typed(self, form: str = "main form") -> dict[str, list[str]]:
        """What the form would send if it were sent as it stands, without the button."""
        fields: dict[str, list[str]] = {}
        for each in self.one(form).select("input[name], select[name], textarea[name]"):
            if (value := _value(each)) is not None:
                fields.setdefault(str(each["name"]), []).append(value)
        return fields


async def get(door: Door, path: str, *, headers: Mapping[str, str] = BROWSER) -> Page:
    """A page, without following where it leads."""
    return await _ask(door, "GET", path, headers=headers)


async def get_all(door: Door, path: str, *, most: int = 20) -> list[Page]:
    """A list from its first page to its last one, by the links that lead on."""
    found = [await get(door, path)]
    while further := found[-1].all("a[rel=next]"):
        assert len(found) < most, "the list never ends"
        found.append(await get(door, str(further[0]["href"])))
    assert [page.status for page in found] == [200] * len(found)
    return found


async def post(
    door: Door, path: str, fields: Mapping[str, str | list[str]] | None = None, *, headers: Mapping[str, str] = BROWSER
) -> Page:
    """What a form answers, without following where it leads."""
    return await _ask(
        door,
        "POST",
        path,
        data=urlencode(fields or {}, doseq=True).encode(),
        headers={**headers, "Content-Type": "application/x-www-form-urlencoded"},
    )


async def _ask(door: Door, method: str, path: str, **more: object) -> Page:
    answer = await door.ask(method, path, allow_redirects=False, **more)
    return Page(
        status=answer.status,
        headers=answer.headers,
        html=answer.text,
        soup=BeautifulSoup(answer.text, "html.parser"),
    )


def _value(each: Tag) -> str | None:
    """What a field sends; None if it sends nothing."""
    if each.has_attr("disabled"):
        return None
    if each.name == "textarea":
        return each.get_text().removeprefix("\n")
    if each.name == "select":
        chosen = each.select_one("option[selected]") or each.select_one("option")
        return None if chosen is None else str(chosen.get("value", chosen.get_text()))
    if each.get("type") in ("checkbox", "radio"):
        return str(each.get("value", "on")) if each.has_attr("checked") else None
    return None if each.get("type") == "submit" else str(each.get("value", ""))


def _read(element: Tag) -> str:
    """The words, and no space before a stop that stands behind an element."""
    return re.sub(r" (?=[.,:;])", "", " ".join(element.get_text(" ").split()))
