"""Compressed request bodies: unpacked by us alone, after authorisation, and only as far as the endpoint's limit."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib

import pytest
from aiohttp import ClientSession

from tests.support.values.bombs import gzip_bomb
from tests.support.web.application import Answer, App, app

ADMIN = "correct horse battery staple"
JSON = {"Content-Type": "application/json"}
EVENT = b'{"tenant":"acme","type":"a.b","data":{}}'

# What a healthy daemon promises to a client that asks meanwhile.
HEALTH_SECONDS = 1.0


async def post(opened: App, body: bytes, encoding: str, **more: str) -> Answer:
    return await opened.ask("POST", "/v1/events", data=body, headers=JSON | {"Content-Encoding": encoding} | more)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(EVENT, mtime=0)),
        ("GZIP", gzip.compress(EVENT, mtime=0)),
        ("x-gzip", gzip.compress(EVENT, mtime=0)),
        ("gzip", gzip.compress(EVENT[:10], mtime=0) + gzip.compress(EVENT[10:], mtime=0)),
        ("deflate", zlib.compress(EVENT)),
        ("deflate", raw_deflate(EVENT)),
        ("identity", EVENT),
    ],
)
async def test_every_encoding_that_is_taken_is_unpacked(app: App, encoding: str, body: bytes) -> None:
    assert (await post(app, body, encoding)).status == 202
    assert len(await app.events()) == 1


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip, br", "compress", "x"])
async def test_another_encoding_is_415_and_those_taken_are_named(app: App, encoding: str) -> None:
    for where in ("/v1/events", "/v1/tenants/acme/routes", "/t/acme/webhooks/new"):
        answer = await app.ask("POST", where, data=EVENT, headers=JSON | {"Content-Encoding": encoding})
        assert answer.status == 415, where
        assert "gzip" in answer.text
        assert "deflate" in answer.text
        assert answer.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "body",
    [b"no gzip at all", gzip.compress(EVENT, mtime=0)[:-9], gzip.compress(EVENT, mtime=0) + b"more", b"\x1f\x8b"],
)
async def test_what_is_not_what_its_encoding_says_is_400(app: App, body: bytes) -> None:
    answer = await post(app, body, "gzip")
    assert answer.status == 400
    assert "gzip" in answer.json["detail"]
    assert (await post(app, gzip.compress(EVENT, mtime=0), "gzip")).status == 202


async def test_more_members_than_anybody_needs_are_413(app: App) -> None:
    answer = await post(app, gzip.compress(b"", mtime=0) * 10_000, "gzip")
    assert answer.status == 413


async def test_a_bomb_of_an_authorised_producer_is_413_before_it_is_unpacked(app: App) -> None:
    bomb = gzip_bomb(1 << 30)
    assert len(bomb) < 1 << 21
    before = time.process_time()
    batch = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    assert (await post(app, bomb[: 200 * 1024], "gzip")).status == 413
    assert (await app.ask("POST", "/v1/events", data=bomb, headers=batch)).status == 413
    assert time.process_time() - before < 5.0


async def test_six_bombs_without_a_token_cost_no_client_its_answer(empty_url: str) -> None:
    """Unpacked whole they took the loop for 23 s."""
    bomb = gzip_bomb(1 << 30)
    async with app(empty_url, server__admin_token=ADMIN) as guarded, ClientSession() as http:
        url = guarded.client.make_url("/")
        before = time.process_time()

        async def attack() -> int:
            headers = JSON | {"Content-Encoding": "gzip"}
            async with http.post(url / "v1/events", data=bomb, headers=headers) as answer:
                return answer.status

        attacks = [asyncio.ensure_future(attack()) for _ in range(6)]
        while not all(each.done() for each in attacks):
            async with asyncio.timeout(HEALTH_SECONDS), http.get(url / "healthz") as healthy:
                assert healthy.status == 200
        assert {each.result() for each in attacks} == {401}
        assert time.process_time() - before < 5.0
