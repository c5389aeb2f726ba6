"""POST /v1/events with many events, one on each line."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from tests.support.web.application import Answer, App, app


def line(number: int, *, data: str = "{}") -> bytes:
    return f'{{"tenant":"acme","type":"a.b","id":"e{number}","data":{data}}}'.encode()


async def publish(to: App, body: object) -> Answer:
    return await to.ask("POST", "/v1/events", data=body, headers={"Content-Type": "application/x-ndjson"})


async def ids(of: App) -> list[str]:
    return [row["id"] for row in await of.events()]


async def test_every_line_gets_its_answer_and_the_good_half_is_stored(app: App) -> None:
    bad = b'{"tenant":"acme","type":"A","data":{}}'
    answer = await publish(app, b"\n".join([line(1), bad, line(2), b"{", line(1)]))
    assert answer.status == 202
    assert {name: answer.json[name] for name in ("accepted", "duplicates", "rejected")} == {
        "accepted": 2,
        "duplicates": 1,
        "rejected": 2,
    }
    events = answer.json["events"]
    assert [event["status"] for event in events] == ["accepted", "rejected", "accepted", "rejected", "duplicate"]
    assert [event["id"] for event in events] == ["e1", None, "e2", None, "e1"]
    assert [event.get("line") for event in events] == [None, 2, None, 4, None]
    assert events[1]["errors"][0]["field"] == "type"
    assert await ids(app) == ["e1", "e2"]
    assert len(app.hurried) == 1


async def test_lines_without_an_id_are_the_same_events_under_the_same_key(app: App) -> None:
    body = b"\n".join([b'{"tenant":"acme","type":"a.b","data":{}}'] * 2)
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "k1"}
    first, again = [await app.ask("POST", "/v1/events", data=body, headers=headers) for _ in range(2)]
    assert (first.json["accepted"], again.json["duplicates"]) == (2, 2)
    assert len(set(await ids(app))) == 2


@pytest.mark.parametrize(
    "body",
    [
        line(1) + b"\n" + line(2),
        line(1) + b"\n" + line(2) + b"\n",
        line(1) + b"\r\n" + line(2) + b"\r\n",
        b"\n\n  \n" + line(1) + b"\n\r\n\t\n" + line(2) + b"\n\n",
        b"\xef\xbb\xbf" + line(1) + b"\n" + line(2),
        b"\xef\xbb\xbf\n" + line(1) + b"\n" + line(2),
    ],
)
async def test_ends_of_lines_blank_lines_and_a_byte_order_mark(app: App, body: bytes) -> None:
    answer = await publish(app, body)
    assert (answer.json["accepted"], answer.json["rejected"]) == (2, 0), answer.text
    assert await ids(app) == ["e1", "e2"]


@pytest.mark.parametrize("body", [b"", b"\n\n", b"   "])
async def test_a_body_without_lines_is_an_empty_batch(app: App, body: bytes) -> None:
    answer = await publish(app, body)
    assert (answer.status, answer.json) == (202, {"accepted": 0, "duplicates": 0, "rejected": 0, "events": []})
    assert app.hurried == []


async def test_lines_cut_anywhere_into_chunks(app: App) -> None:
    body = b"\xef\xbb\xbf" + b"\r\n".join(line(n) for n in range(20))

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    assert (await publish(app, chunks())).json["accepted"] == 20
    assert await ids(app) == [f"e{n}" for n in range(20)]


async def test_payloads_keep_their_bytes(app: App) -> None:
    payload = '{"price": 1.10, "big":123456789012345678901234567890}'
    await publish(app, line(1, data=payload))
    assert (await app.events())[0]["data"] == payload.encode()


HOSTILE = [
    b'{"tenant":"acme","type":"a.b","data":' + b'{"a":' * 2000 + b"1" + b"}" * 2001,
    b'{"tenant":"acme","type":"a.b","data":{"deep":' + b"[" * 1000 + b"]" * 1000 + b"}}",
    b'{"tenant":"acme","type":"a.b","data":{"text":"\xff"}}',
    b'{"tenant":"acme","type":"a.b","type":"a.c","data":{}}',
    b'{"tenant":"acme","type":"a.b","data":{"n":NaN}}',
    b'{"tenant":"acme\x00","type":"a.b","data":{}}',
    b"\x00",
]
UNUSUAL = [
    '{"text":"\\ud800"}',
    '{"n":1e999}',
    '{"n":18446744073709551616,"m":-9223372036854775809,"x":1.000000000000000000001}',
    '{"n":123456789012345678901234567890,"e":1E400000}'.replace("E400000", "E-400000"),
    '{"twice":1,"twice":{"twice":2,"twice":3}}',
    '{"deep":' + "[" * 250 + "]" * 250 + "}",
    '{"nul":"\\u0000","pair":"\\ud83d\\ude00","slash":"\\/"}',
]


async def test_hostile_lines_are_named_each_and_unusual_ones_between_them_kept_byte_for_byte(app: App) -> None:
    lines = [line(n, data=data) for n, data in enumerate(UNUSUAL)]
    mixed = [each for pair in zip(HOSTILE, lines * 2, strict=False) for each in pair]
    answer = await publish(app, b"\n".join(mixed))
    rejected = [event for event in answer.json["events"] if event["status"] == "rejected"]
    assert [event["line"] for event in rejected] == [2 * n + 1 for n in range(len(HOSTILE))]
    assert all(event["errors"][0]["message"] for event in rejected)
    assert answer.json["accepted"] == len(UNUSUAL)
    assert [row["data"] for row in await app.events()] == [data.encode() for data in UNUSUAL]


async def test_a_line_beyond_the_limit_is_named_and_the_others_are_stored(empty_url: str) -> None:
    async with app(empty_url, events__max_bytes="1024") as opened:
        answer = await publish(
            opened, b"\n".join([line(1), b"x" * 5000, line(2), line(3, data="[" + " " * 1000 + "]")])
        )
        assert [event["status"] for event in answer.json["events"]] == ["accepted", "rejected", "accepted", "rejected"]
        assert answer.json["events"][1]["line"] == 2
        assert answer.json["events"][1]["errors"] == [
            {"field": "", "message": "the event has 5000 bytes, 1024 are allowed"}
        ]
        assert await ids(opened) == ["e1", "e2"]


async def test_a_line_without_an_end_does_not_fill_the_memory(app: App) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(600):
            yield b"x" * 65536
        yield b"\n" + line(1)

    tracemalloc.start()
    try:
        answer = await publish(app, endless())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.json["events"][0]["line"] == 1
    assert await ids(app) == ["e1"]
    assert peak_bytes < 8 * 1024 * 1024


async def test_too_many_lines_or_bytes_are_413_and_nothing_is_stored(empty_url: str) -> None:
    async with app(empty_url, events__batch_max="3", events__max_bytes="1024") as opened:
        assert (await publish(opened, b"\n".join(line(n) for n in range(3)))).status == 202
        too_many = await publish(opened, b"\n".join(line(n) for n in range(10, 14)))
        assert too_many.status == 413
        assert too_many.json["detail"] == "a batch may have 3 events; nothing was stored, send it in parts"
        too_long = await publish(opened, line(20) + b"\n" + b"\n" * 1024 * 256)
        assert too_long.status == 413
        assert len(await ids(opened)) == 3


async def test_a_refused_value_rejects_its_line_only(database_url: str) -> None:
    async with app(database_url) as opened:
        await opened.rows("ALTER TABLE hookledger.domain_event ADD CONSTRAINT picky CHECK (id <> 'e7')")
        answer = await publish(opened, b"\n".join(line(n) for n in range(20)))
        assert (answer.json["accepted"], answer.json["rejected"]) == (19, 1)
        assert answer.json["events"][7]["status"] == "rejected"
        assert len(await ids(opened)) == 19


async def test_a_large_batch_lets_others_be_served(app: App) -> None:
    body = b"\n".join(line(n) for n in range(10_000))
    batch = asyncio.create_task(publish(app, body))
    served = 0
    while not batch.done():
        assert (await app.ask("GET", "/healthz")).status == 200
        served += 1
    answer = await batch
    assert answer.status == 202, answer.text
    assert answer.json["accepted"] == 10_000
    assert served > 5
