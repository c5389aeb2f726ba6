"""Lists of deliveries and events as NDJSON and CSV: all that match, in the order of the pages, or visibly cut off."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import aiohttp
import pytest

from daemon import deliveries
from daemon.web.http import paging
from daemon.web.service import exports
from eventstore.postgres.errors import StoreUnavailable
from tests.support.rows.delivery_log import delivery_log
from tests.support.web.application import Answer, App

DELIVERIES, EVENTS = "/v1/tenants/acme/deliveries", "/v1/tenants/acme/events"
NDJSON, CSV = "application/x-ndjson", "text/csv"


async def export(app: App, path: str, accept: str) -> Answer:
    return await app.ask("GET", path, headers={"Accept": accept})


def lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def rows(answer: Answer) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


@pytest.mark.parametrize("path", [DELIVERIES, f"{DELIVERIES}?status=failed", EVENTS, f"{EVENTS}?type=order.pay"])
async def test_an_export_has_the_items_of_all_pages(empty_url: str, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(exports, "PAGE_ITEMS", 7)
    async with delivery_log(empty_url) as log:
        pages = await log.app.ask("GET", f"{path}{'&' if '?' in path else '?'}limit=200")
        items = pages.json["items"]
        assert items
        assert pages.json["next"] is None
        as_lines, as_rows = await export(log.app, path, NDJSON), await export(log.app, path, CSV)
        assert lines(as_lines) == items
        assert [row["id"] for row in rows(as_rows)] == [item["id"] for item in items]
        name = "events" if path.startswith(EVENTS) else "deliveries"
        assert as_lines.headers["Content-Type"] == f"{NDJSON}; charset=utf-8"
        assert as_rows.headers["Content-Disposition"] == f'attachment; filename="{name}.csv"'
        by_link = await log.app.ask("GET", f"{path}{'&' if '?' in path else '?'}export=ndjson")
        assert by_link.text == as_lines.text


async def test_a_row_of_csv_has_every_field_of_a_delivery(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        items = lines(await export(log.app, DELIVERIES, NDJSON))
        found = rows(await export(log.app, DELIVERIES, CSV))
    for item, row in zip(items, found, strict=True):
        last = item["last_attempt"] or {"at": None, "status_code": None, "error": None}
        expected = {
            "id": item["id"], "event_id": item["event"]["id"], "event_type": item["event"]["type"],
            "event_time": item["event"]["event_time"], "route_id": item["route"]["id"],
            "route_name": item["route"]["name"], "status": item["status"], "attempts": item["attempts"],
            "last_attempt_at": last["at"], "last_status_code": last["status_code"], "last_error": last["error"],
            "next_attempt_at": item["next_attempt_at"], "test": "true" if item["test"] else "false",
        }  # fmt: skip
        assert row == {name: "" if value is None else str(value) for name, value in expected.items()}


async def test_an_empty_export_has_the_names_of_the_columns(app: App) -> None:
    assert (await export(app, EVENTS, NDJSON)).text == ""
    header = "id,type,event_time,occurred_at,recorded_at,backfill,test,tick\r\n"
    assert (await export(app, EVENTS, CSV)).text == header


@pytest.mark.parametrize("id", ["=1+1", "+1", "-1", "@SUM(A1)"])
async def test_a_spreadsheet_takes_no_text_for_a_formula(app: App, id: str) -> None:
    event = {"tenant": "acme", "type": "a.b", "id": id, "data": {}}
    assert (await app.ask("POST", "/v1/events", event)).status == 202
    assert rows(await export(app, EVENTS, CSV))[0]["id"] == f"'{id}"
    assert lines(await export(app, EVENTS, NDJSON))[0]["id"] == id


@pytest.mark.parametrize("name", ["\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)"])
def test_nor_does_a_spreadsheet_in_japanese(name: str) -> None:
    encode = exports._csv_of({"route_name": ("route", "name")})
    assert encode([{"route": {"name": name}}]).decode() == f"route_name\r\n'{name}\r\n"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("text/csv;q=0.5, application/json;q=0.9", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=x, application/json;q=0.1", "application/json"),
        ("image/png", "application/json"),
        ("text/csv, */*;q=0.1", CSV),
        ("TEXT/CSV", CSV),
        ("text/csv;q=0.2, application/x-ndjson;q=0.3", NDJSON),
    ],
)
async def test_accept_says_which_form_is_preferred(app: App, accept: str, content_type: str) -> None:
    answer = await export(app, EVENTS, accept)
    assert answer.headers["Content-Type"].partition(";")[0] == content_type


async def test_head_has_no_body(app: App) -> None:
    answer = await app.ask("HEAD", EVENTS, headers={"Accept": CSV})
    assert (answer.status, answer.text) == (200, "")


@pytest.mark.parametrize(("name", "value"), [("limit", "5"), ("cursor", paging.encoded("0.1"))])
async def test_an_export_has_no_pages(app: App, name: str, value: str) -> None:
    answer = await export(app, f"{EVENTS}?{name}={value}", CSV)
    assert answer.status == 422
    assert answer.errors == {name: "an export has no pages: leave it out"}


async def test_an_unknown_form_is_refused(app: App) -> None:
    assert (await app.ask("GET", f"{EVENTS}?export=xlsx")).status == 422


async def test_a_tenant_with_too_many_exports_is_asked_to_wait(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MAX_EXPORTS_OF_TENANT", 0)
    answer = await export(app, DELIVERIES, CSV)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "30")


class _Failing:
    """The list of deliveries, whose pages fail from the second to the last of `failures`."""

    def __init__(self, failures: int) -> None:
        self._page = deliveries.page
        self._failures = range(2, 2 + failures)
        self._asked = 0

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        self._asked += 1
        if self._asked in self._failures:
            raise StoreUnavailable("away")
        return await self._page(*arguments, **options)


async def test_an_export_waits_for_a_database_that_is_away(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE_ITEMS", 7)
    monkeypatch.setattr(exports, "RETRY_SECONDS", 0)
    async with delivery_log(empty_url) as log:
        whole = await export(log.app, DELIVERIES, NDJSON)
        monkeypatch.setattr(deliveries, "page", _Failing(3))
        assert (await export(log.app, DELIVERIES, NDJSON)).text == whole.text


async def test_an_export_that_cannot_go_on_has_no_proper_end(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE_ITEMS", 7)
    monkeypatch.setattr(exports, "PATIENCE_SECONDS", 0)
    async with delivery_log(empty_url) as log:
        monkeypatch.setattr(deliveries, "page", _Failing(1))
        with pytest.raises(aiohttp.ClientError):
            await export(log.app, DELIVERIES, NDJSON)


async def test_a_first_page_that_fails_is_an_ordinary_error(app: App) -> None:
    await app.disconnect()
    answer = await export(app, DELIVERIES, CSV)
    assert answer.status == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
