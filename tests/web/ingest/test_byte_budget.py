"""The limit of events in memory, for all requests together, and the timeout of a body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from daemon.web.http.problems import Problem
from daemon.web.http.requests import bodies
from daemon.web.ingest.byte_budget import ByteBudget
from daemon.web.ingest.publish import BYTE_BUDGET
from tests.support.web.application import Answer, App, app
from tests.support.web.tokens import bearer, token

NDJSON = {"Content-Type": "application/x-ndjson"}
HALF_BYTES = 250_000
LINES = b"\n" * (HALF_BYTES - 100) + b'{"tenant":"acme","type":"a.b","data":{}}\n'


def test_what_is_taken_is_given_back_at_the_end_and_nobody_takes_more_than_there_is() -> None:
    budget = ByteBudget(10)
    with budget.share(None) as take:
        take(4)
        with budget.share(None) as other:
            other(6)
            with pytest.raises(Problem) as refused:
                take(1)
        take(6)
    assert refused.value.status == 503
    assert int(refused.value.headers["Retry-After"]) > 0
    with budget.share(None) as take:
        take(10)


def test_a_tenant_has_no_more_than_its_part() -> None:
    budget = ByteBudget(10)
    with budget.share("evil") as take, budget.share("evil") as again, budget.share("acme") as other:
        take(3)
        with pytest.raises(Problem):
            again(3)
        again(2)
        other(5)
    with budget.share("evil") as take:
        take(5)


async def test_a_tenant_that_holds_batches_back_keeps_nobody_from_publishing(empty_url: str) -> None:
    go_on = asyncio.Event()
    lines = LINES.replace(b"acme", b"evil")

    async def held() -> AsyncIterator[bytes]:
        yield lines
        await go_on.wait()

    async with app(empty_url, events__max_bytes="1024", server__admin_token="x" * 32) as opened:
        evil, acme = [
            {**NDJSON, **bearer(await token(opened.database, f"producer:{tenant}"))} for tenant in ("evil", "acme")
        ]
        asking = [asyncio.create_task(opened.ask("POST", "/v1/events", data=held(), headers=evil)) for _ in range(3)]
        refused = [await first for _, first in zip(range(2), asyncio.as_completed(asking, timeout=10), strict=False)]
        assert [answer.status for answer in refused] == [503, 503]
        assert (await opened.ask("POST", "/v1/events", data=LINES, headers=acme)).status == 202
        go_on.set()
        assert sorted(answer.status for answer in await asyncio.gather(*asking)) == [202, 503, 503]


async def test_batches_beyond_the_room_are_503_and_welcome_later(empty_url: str) -> None:
    go_on = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        yield LINES
        await go_on.wait()

    async def publish(to: App, body: object) -> Answer:
        return await to.ask("POST", "/v1/events", data=body, headers=NDJSON)

    async with app(empty_url, events__max_bytes="1024") as opened:
        budget = opened.client.app[BYTE_BUDGET]
        whole_bytes = budget._free_bytes
        first = [asyncio.create_task(publish(opened, held())) for _ in range(2)]
        async with asyncio.timeout(10):
            while whole_bytes - budget._free_bytes < 2 * len(LINES):
                await asyncio.sleep(0.01)
        refused = await publish(opened, LINES)
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        small = await opened.ask("POST", "/v1/events", {"tenant": "acme", "type": "a.b", "data": {}})
        assert small.status == 202
        go_on.set()
        assert [answer.json["accepted"] for answer in await asyncio.gather(*first)] == [1, 1]
        assert (await publish(opened, LINES)).status == 202
        assert budget._free_bytes == whole_bytes


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json"])
async def test_a_sender_who_dribbles_is_408_in_the_end(
    app: App, content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)
    is_answered = asyncio.Event()

    async def dribble() -> AsyncIterator[bytes]:
        while not is_answered.is_set():
            yield b"\n"
            await asyncio.sleep(0.01)

    answer = await app.ask("POST", "/v1/events", data=dribble(), headers={"Content-Type": content_type})
    is_answered.set()
    assert answer.status == 408
    assert "nothing was stored" in answer.json["detail"]
