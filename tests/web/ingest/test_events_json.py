"""POST /v1/events with one event."""

from __future__ import annotations

import gzip

import pytest

from tests.support.web.application import App, app

JSON = {"Content-Type": "application/json"}
EVENT = {"tenant": "acme", "type": "order.create", "id": "e1", "data": {"total": 1}}


async def test_an_event_is_stored_and_a_tick_is_asked_for(app: App) -> None:
    answer = await app.ask("POST", "/v1/events", EVENT)
    assert (answer.status, answer.json) == (
        202,
        {"accepted": 1, "duplicates": 0, "rejected": 0, "events": [{"id": "e1", "status": "accepted"}]},
    )
    [stored] = await app.events()
    assert (stored["tenant"], stored["type"], stored["id"], stored["data"]) == (
        "acme",
        "order.create",
        "e1",
        b'{"total":1}',
    )
    assert len(app.hurried) == 1


async def test_the_same_id_again_is_a_duplicate(app: App) -> None:
    await app.ask("POST", "/v1/events", EVENT)
    answer = await app.ask("POST", "/v1/events", EVENT | {"data": {}})
    assert answer.status == 202
    assert answer.json["duplicates"] == 1
    assert answer.json["events"] == [{"id": "e1", "status": "duplicate"}]
    other = await app.ask("POST", "/v1/events", EVENT | {"tenant": "other"})
    assert other.json["accepted"] == 1


async def test_an_event_without_an_id_gets_one(app: App) -> None:
    event = {name: value for name, value in EVENT.items() if name != "id"}
    first, second = [await app.ask("POST", "/v1/events", event) for _ in range(2)]
    ids = [answer.json["events"][0]["id"] for answer in (first, second)]
    assert ids == [row["id"] for row in await app.events()]
    assert len(set(ids)) == 2


async def test_an_event_without_an_id_is_the_same_event_under_the_same_key(app: App) -> None:
    event = {name: value for name, value in EVENT.items() if name != "id"}
    key = {"Idempotency-Key": "k1"}
    first, again = [await app.ask("POST", "/v1/events", event, headers=key) for _ in range(2)]
    assert [first.json["accepted"], again.json["duplicates"]] == [1, 1]
    assert first.json["events"][0]["id"] == again.json["events"][0]["id"]
    for changed, headers in (
        (event | {"data": {"total": 2}}, key),
        (event, {"Idempotency-Key": "k2"}),
        (EVENT, key),
    ):
        assert (await app.ask("POST", "/v1/events", changed, headers=headers)).json["accepted"] == 1
    assert len(await app.events()) == 4
    refused = await app.ask("POST", "/v1/events", event, headers={"Idempotency-Key": "\u00e9"})
    assert refused.status == 400


async def test_all_parts_of_an_event_are_kept(app: App) -> None:
    more = {
        "occurred_at": "2026-01-02T03:04:05.000006+01:00",
        "context": {"a": 1},
        "snapshot": {"b": {}},
        "backfill": True,
    }
    assert (await app.ask("POST", "/v1/events", EVENT | more)).status == 202
    [stored] = await app.events()
    assert stored["occurred_at"].isoformat() == "2026-01-02T02:04:05.000006+00:00"
    assert (stored["context"], stored["snapshot"], stored["backfill"]) == (b'{"a":1}', b'{"b":{}}', True)


@pytest.mark.parametrize(
    "payload",
    [
        '{"price":1.10,"big":123456789012345678901234567890,"e":1E5}',
        '{ "spaced" : [ 1 , 2 ] ,\t"b":\r\n"\\u00e9\\/" }',
        '{"twice":1,"twice":2}',
        '{"n":1e999,"half":"\\ud800","\\udc00":-1E+400}',
        '{"nul":"\\u0000","emoji":"😀","escaped":"\\ud83d\\ude00"}',
        '{"z":1,"a":{"deep":' + "[" * 200 + "]" * 200 + "}}",
        "{}",
    ],
)
async def test_payloads_are_stored_byte_for_byte(app: App, payload: str) -> None:
    body = f'{{"tenant":"acme","type":"a.b","id":"e1","data":{payload},"context":{payload}}}'.encode()
    answer = await app.ask("POST", "/v1/events", data=body, headers=JSON)
    assert answer.status == 202, answer.text
    [stored] = await app.events()
    assert stored["data"] == stored["context"] == payload.encode()


async def test_all_mistakes_are_named_at_once_and_nothing_is_stored(app: App) -> None:
    answer = await app.ask(
        "POST",
        "/v1/events",
        {
            "tenant": "a b",
            "type": "Order",
            "id": "",
            "occured_at": "x",
            "occurred_at": "today",
            "data": [],
            "backfill": 1,
        },
    )
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["detail"] == "the event is not valid; nothing was stored"
    assert set(answer.errors) == {"tenant", "type", "id", "occured_at", "occurred_at", "data", "backfill"}
    assert "did you mean occurred_at?" in answer.errors["occured_at"]
    assert await app.events() == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"tenant":"\xff"}', "not valid JSON: it is not UTF-8"),
        (b'{"data":{"n":NaN}}', "not valid JSON"),
        (b'{"data":' + b'{"a":' * 2000 + b"1" + b"}" * 2001, "not valid JSON"),
        (b'{"data":' + b"[" * 1000 + b"]" * 1000 + b"}", "nested too deeply"),
        (b'{"tenant":"a","tenant":"b","type":"a.b","data":{}}', "is given more than once"),
    ],
)
async def test_what_is_no_event_is_refused_with_a_sentence(app: App, body: bytes, said: str) -> None:
    answer = await app.ask("POST", "/v1/events", data=body, headers=JSON)
    assert answer.status == 422
    assert said in answer.json["errors"][0]["message"]
    assert await app.events() == []


async def test_a_byte_order_mark_and_a_charset_are_no_mistakes(app: App) -> None:
    body = b'\xef\xbb\xbf{"tenant":"acme","type":"a.b","data":{}}'
    answer = await app.ask("POST", "/v1/events", data=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.status == 202


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_other_content_types_are_415(app: App, content_type: str) -> None:
    answer = await app.ask("POST", "/v1/events", data=b"{}", headers={"Content-Type": content_type})
    assert answer.status == 415
    assert "application/x-ndjson" in answer.json["detail"]


async def test_a_thousand_unknown_fields_do_not_cost_a_second(app: App) -> None:
    answer = await app.ask("POST", "/v1/events", {f"occurred_{n}": 0 for n in range(10_000)})
    assert answer.status == 422
    assert len(answer.json["errors"]) < 20


async def test_a_body_beyond_the_limit_is_413_by_length_by_chunks_and_unpacked(empty_url: str) -> None:
    async def chunks() -> object:
        for _ in range(20):
            yield b" " * 100

    big = b'{"tenant":"acme","type":"a.b","data":{"a":"' + b"x" * 1000 + b'"}}'
    async with app(empty_url, events__max_bytes="1024") as opened:
        by_length = await opened.ask("POST", "/v1/events", data=big, headers=JSON)
        by_chunks = await opened.ask("POST", "/v1/events", data=chunks(), headers=JSON)
        unpacked = await opened.ask(
            "POST", "/v1/events", data=gzip.compress(big), headers=JSON | {"Content-Encoding": "gzip"}
        )
        assert [by_length.status, by_chunks.status, unpacked.status] == [413, 413, 413]
        assert "1024" in by_length.json["detail"]
        fits = await opened.ask("POST", "/v1/events", data=big[:44] + b'"}}', headers=JSON)
        assert fits.status == 202
        assert len(await opened.events()) == 1


async def test_a_packed_body_is_unpacked_and_a_broken_one_is_400(app: App) -> None:
    packed = gzip.compress(b'{"tenant":"acme","type":"a.b","data":{}}')
    headers = JSON | {"Content-Encoding": "gzip"}
    assert (await app.ask("POST", "/v1/events", data=packed, headers=headers)).status == 202
    broken = await app.ask("POST", "/v1/events", data=b"no gzip at all", headers=headers)
    assert broken.status == 400


async def test_broken_chunks_are_400(app: App) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 400 " in (await app.raw(head + b"zz\r\n{}\r\n0\r\n\r\n")).split(b"\r\n")[0]


async def test_a_length_of_a_terabyte_is_413_at_once(app: App) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1099511627776\r\n\r\n"
    assert b" 413 " in (await app.raw(head)).split(b"\r\n")[0]


async def test_results_are_counted(app: App) -> None:
    for body in (EVENT, EVENT, {}):
        await app.ask("POST", "/v1/events", body)
    text = (await app.ask("GET", "/metrics")).text
    for result in ("accepted", "duplicate", "rejected"):
        assert f'hookledger_events_published_total{{result="{result}"}} 1.0' in text


async def test_the_deliveries_that_led_to_an_event_are_counted_and_too_many_are_refused(app: App) -> None:
    for hops in (1, 3):
        answer = await app.ask("POST", "/v1/events", EVENT | {"id": f"e{hops}"}, headers={"Hookledger-Hops": str(hops)})
        assert answer.status == 202
    refused = await app.ask("POST", "/v1/events", EVENT | {"id": "e4"}, headers={"Hookledger-Hops": "4"})
    assert refused.status == 508
    assert "delivered 4 times in a row by routes whose target is this installation" in refused.json["detail"]
    assert [row["hops"] for row in await app.events()] == [1, 3]


@pytest.mark.parametrize("hops", ["", "0", "-1", "x", "1e3", "12345", "1, 2"])
async def test_a_count_of_deliveries_that_is_none_is_refused(app: App, hops: str) -> None:
    answer = await app.ask("POST", "/v1/events", EVENT, headers={"Hookledger-Hops": hops})
    assert answer.status == 400
    assert "Hookledger-Hops" in answer.json["detail"]
