"""Targets that skipped the check at registration: SQL writes them into the route log, and the whole pipeline delivers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from daemon.core.delivery.answer import ErrorName
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import config_to_body
from daemon.core.webhook.egress import EgressPolicy, address_denied
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.pipeline.sending import record_connects
from tests.support.receivers.dns import FakeResolver

SSRF = json.loads((Path(__file__).parents[2] / "data" / "ssrf_cases.json").read_text())
DEFAULT = EgressPolicy()
TRAP = ["127.0.0.1", "::1", "10.0.0.5", "93.184.216.34"]

_APPEND = "SELECT hookledger.append_route_event($1, 'acme', 2, 'edited', 'nobody', 'sql', NULL, NULL, NULL, NULL, $2)"


def resolver_of(cases: Sequence[dict[str, Any]]) -> FakeResolver:
    """Each name resolves to the last addresses of its case, any other to one public address."""
    answers = {
        case["url"].split("/")[2].removesuffix("."): [case.get("resolves_to_sequence", [case["resolves_to"]])[-1]]
        for case in cases
        if "resolves_to" in case
    }
    return FakeResolver(**answers, **{"*": [TRAP]})


async def overwrite(it: PipelineProcess, urls: Sequence[str]) -> list[UUID]:
    """A route for each URL, without a command's check of it. Returns their ids."""
    ids = []
    for number, url in enumerate(urls):
        route = await it.route("https://hooks.shop.com/", f"case.n{number}")
        body = {"config": config_to_body(route.config) | {"target_url": url}}
        await it.rows(_APPEND, route.id, orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode())
        ids.append(route.id)
    await it.projection.catch_up()
    return ids


@pytest.mark.parametrize("stage", ["register", "resolve"])
async def test_no_socket_is_opened_to_an_address_that_is_not_permitted(
    stage: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case for case in SSRF if case["stage"] == stage and "policy" not in case]
    connects = record_connects(monkeypatch, but=database_url)
    once = RetryPolicy(attempts=1)
    async with pipeline_process(database_url, policy=DEFAULT, resolver=resolver_of(cases), retry=once) as it:
        ids = await overwrite(it, [case["url"] for case in cases])
        await it.publish(*(f"case.n{number}" for number in range(len(cases))))
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(cases), seconds=30)
        rows = await it.rows("SELECT route_id, error, outcome FROM hookledger.attempt")
    found = {row["route_id"]: row["error"] for row in rows}
    expected = {"deny": ErrorName.EGRESS_DENIED, "allow": ErrorName.CONNECT_REFUSED}
    assert [(case["id"], found[id]) for case, id in zip(cases, ids, strict=True)] == [
        (case["id"], expected[case["verdict"]]) for case in cases
    ]
    assert [address for address in connects if address_denied(address, DEFAULT)] == []
    assert {row["outcome"] for row in rows} == {"failed"}


async def test_a_merchant_learns_no_more_than_a_name_of_the_fixed_set(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_connects(monkeypatch, but=database_url)
    names = FakeResolver(**{"deep.shop.com": [["10.11.12.13"]], "open.shop.com": [["93.184.216.34"]]})
    async with pipeline_process(database_url, policy=DEFAULT, resolver=names, retry=RetryPolicy(attempts=1)) as it:
        hosts = ("deep.shop.com", "open.shop.com", "gone.shop.com")
        await overwrite(it, [f"https://{host}/" for host in hosts])
        await it.publish(*(f"case.n{number}" for number in range(len(hosts))))
        await it.until_row("SELECT count(*) = 3 FROM hookledger.attempt")
        rows = await it.rows("SELECT * FROM hookledger.attempt ORDER BY event_type")
    assert [row["error"] for row in rows] == ["egress_denied", "connect_refused", "dns_error"]
    assert not any(said in repr(rows) for said in ("10.11", "93.184", "no such name", "refused by", "Errno"))
