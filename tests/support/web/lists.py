"""Events that are published over HTTP, and lists that are read to their last page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from tests.support.web.application import App


async def publish_event(app: App, number: int, data: dict[str, Any], type: str = "order.create") -> None:
    """Publishes an event of the tenant acme with the id `e<number>`."""
    answer = await app.ask("POST", "/v1/events", {"tenant": "acme", "type": type, "id": f"e{number}", "data": data})
    assert answer.status == 202, answer.text


async def all_items(app: App, path: str, **query: str) -> list[dict[str, Any]]:
    """The items on all pages."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await app.ask("GET", f"{path}?{urlencode(query | cursor)}")
        assert answer.status == 200, answer.text
        items += answer.json["items"]
        if answer.json["next"] is None:
            return items
        cursor = {"cursor": answer.json["next"]}
