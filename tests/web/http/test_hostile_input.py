"""Hostile input to every endpoint is answered with a problem that says what is wrong, and never crashes.

The tables are combined with every operation of the OpenAPI document, so they test a new endpoint too. `App` checks each
answer against that document.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest
from yarl import URL

from daemon.web.access.limits import TenantLimits
from daemon.web.service.auditing import audit_jobs
from tests.support.web.application import Answer, App
from tests.support.web.operations import Operation, is_problem, operations, place, required

JSON = {"Content-Type": "application/json"}

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**31,
    2**64 - 1,
    1.5,
    1e300,
    "",
    " ",
    "x",
    "5",
    "x" * 9000,
    "a\x00b",
    "a\r\nX-Evil: 1",
    "\u202egnp.exe",
    "ü" * 200,
    [],
    [None],
    [5],
    [[]],
    ["x"] * 1001,
    {},
    {"": ""},
    {"a": 5},
    {"A\r\nX-Evil": "1"},
    {"a": {"b": {"c": []}}},
    {f"x{number}": "1" for number in range(1001)},
]

BODIES = {
    "cut": b'{"name": ',
    "nothing but a brace": b"{",
    "two objects": b"{}{}",
    "a list": b"[1]",
    "a text": b'"x"',
    "null": b"null",
    "invalid UTF-8": b'{"name": "\xff"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "NaN": b'{"name": NaN}',
    "a lone surrogate": b'{"name": "\\ud800"}',
    "a raw control character": b'{"name": "\x00"}',
    "2,000 levels of lists": b'{"name":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "2,000 levels of objects": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "a comment": b'{"name": "x" /* */}',
    "a form": b"name=x",
}

QUERIES = [
    ("unknown=1", 422),
    ("&".join(f"unknown{number}=1" for number in range(400)), 422),
    ("=", 422),
    ("%00=1", 422),
    ("a=%zz", 400),
    ("%ff=1", 400),
    ("a=%ED%A0%80", 400),
    ("reason=a&reason=b", 422),
]

CURSORS = ["", "x", "====", "%00", "w_8", *(base64.urlsafe_b64encode(key).decode() for key in (b"\0", b"zz", b"\xff"))]
LIMITS = ["", "0", "-1", "201", "1e2", "1.0", "0x10", "٣", " 5", "9" * 400]

IDS = ["x", "%00", "%0d%0aX-Evil:%201", "%25", "..%2f..%2fetc%2fpasswd", "a" * 4000, "%F0%9F%92%A3", "1' OR '1'='1"]

KEYS = ["", "x" * 256, "ü", "a\tb"]
VERSIONS = ["3", "x", '"x"', '"-1"', '"1", "2"', '"' + "9" * 400 + '"', '""', '"٣"', 'W/"x"', '"1']


@pytest.fixture(autouse=True)
def _as_often_as_we_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests make more requests than a tenant may."""
    monkeypatch.setattr(TenantLimits, "take", lambda *_: None)


def may_be_unknown(operation: Operation, answer: Answer, schema: Mapping[str, Any] | None = None) -> bool:
    """True for a 404 of an operation whose path, or a field of that schema, has an id that does not exist."""
    is_named = not operation.is_of_known or "uuid" in str(schema)
    return answer.status == 404 and is_named


def wrong_fields(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each field with each of VALUES that its schema does not accept."""
    for name, schema in body.get("properties", {}).items():
        whole = {**schema, "components": body["components"]}
        check = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        yield from ((name, value) for value in VALUES if not check.is_valid(value))


async def test_every_field_of_every_body_refuses_what_its_schema_refuses(app: App) -> None:
    route = (await app.route())["id"]
    for operation in await operations(app):
        fields = (operation.body or {}).get("properties", {})
        for name, value in wrong_fields(operation.body or {}):
            answer = await app.ask(operation.method, place(operation, route), {name: value})

            case = (operation.method, operation.path, name, str(value)[:50], answer.text[:300])
            assert is_problem(answer), case
            if not may_be_unknown(operation, answer, fields[name]):
                assert answer.status == 422, case
                assert any(field.split(".")[0] == name for field in answer.errors), case


async def test_no_value_of_any_field_makes_it_crash(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_jobs, "MAX_JOBS", 1_000_000)  # or else the third is asked to wait
    for operation in await operations(app):
        for name in (operation.body or {}).get("properties", ()):
            for value in VALUES:
                route = str(uuid4())  # a valid command must not affect the next case
                answer = await app.ask(operation.method, place(operation, route), {name: value})
                assert answer.status < 500, (operation.method, operation.path, name, answer.text)


async def test_an_unknown_field_of_every_body_is_named_with_what_may_be_meant(app: App) -> None:
    route = (await app.route())["id"]
    for operation in await operations(app):
        for name in (operation.body or {}).get("properties", ()):
            answer = await app.ask(operation.method, place(operation, route), {f"{name}_": 1})

            assert is_problem(answer), (operation, answer.text)
            if not may_be_unknown(operation, answer):
                assert f"did you mean {name}?" in answer.errors[f"{name}_"], answer.text


async def test_a_required_field_of_every_body_is_missed(app: App) -> None:
    route = (await app.route())["id"]
    for operation in await operations(app):
        for name in (operation.body or {}).get("required", ()):
            answer = await app.ask(operation.method, place(operation, route), {})

            assert is_problem(answer), answer.text
            assert may_be_unknown(operation, answer) or "is missing" in answer.errors[name], (
                operation.path,
                answer.text,
            )


@pytest.mark.parametrize("raw", BODIES.values(), ids=list(BODIES))
async def test_a_body_that_is_no_json_object_is_refused_everywhere(app: App, raw: bytes) -> None:
    route = (await app.route())["id"]
    for operation in await operations(app):
        if operation.body is not None:
            answer = await app.ask(operation.method, place(operation, route), data=raw, headers=JSON)
            assert is_problem(answer), (operation.method, operation.path, answer.status, answer.text)
            assert answer.status in (400, 422) or may_be_unknown(operation, answer)


async def test_a_body_that_is_too_long_is_refused_everywhere_with_the_limit(app: App) -> None:
    raw = b'{"name": "' + b"x" * 20_000_000 + b'"}'
    route = (await app.route())["id"]
    for operation in await operations(app):
        if operation.body is not None:
            answer = await app.ask(operation.method, place(operation, route), data=raw, headers=JSON)
            assert is_problem(answer), (operation.method, operation.path, answer.text)
            if not may_be_unknown(operation, answer):
                assert answer.status == 413
                assert any(character.isdigit() for character in answer.json["detail"])


async def test_a_body_of_another_type_is_refused_everywhere(app: App) -> None:
    route = (await app.route())["id"]
    for operation in await operations(app):
        if operation.body is not None:
            headers = {"Content-Type": "text/plain"}
            answer = await app.ask(operation.method, place(operation, route), data=b"x", headers=headers)
            assert is_problem(answer), (operation.method, operation.path, answer.text)
            assert answer.status == 415 or may_be_unknown(operation, answer)


@pytest.mark.parametrize(("query", "status"), QUERIES, ids=lambda value: str(value)[:20])
async def test_a_hostile_query_is_refused_everywhere(app: App, query: str, status: int) -> None:
    name = query.partition("=")[0]
    for operation in await operations(app):
        asks_nothing = not operation.path.startswith("/v1")  # monitoring may append any parameters
        if (asks_nothing and status == 422) or (name in operation.query and "&" not in query):
            continue
        url = URL(f"{place(operation, str(uuid4()))}?{required(operation)}{query}", encoded=True)
        answer = await app.ask(operation.method, url)
        assert is_problem(answer), (operation.method, operation.path, answer.text)
        assert answer.status == status, (operation.method, operation.path, answer.text)


async def test_a_misspelt_query_parameter_is_named_with_what_may_be_meant(app: App) -> None:
    for operation in await operations(app):
        for name in operation.query:
            query = f"{required(operation, but=name)}{name}_=1"
            answer = await app.ask(operation.method, f"{place(operation, str(uuid4()))}?{query}")
            assert f"did you mean {name}?" in answer.errors[f"{name}_"], (operation.path, answer.text)


@pytest.mark.parametrize("text", CURSORS)
async def test_a_cursor_that_nobody_gave_out_is_no_crash(app: App, text: str) -> None:
    route = (await app.route())["id"]
    for operation in await operations(app):
        if "cursor" in operation.query:
            url = URL(f"{place(operation, route)}?{required(operation)}cursor={text}", encoded=True)
            answer = await app.ask(operation.method, url)
            assert answer.status in (200, 404, 422), (operation.path, answer.text)


@pytest.mark.parametrize("text", LIMITS)
async def test_a_limit_that_is_none_is_refused_with_what_it_may_be(app: App, text: str) -> None:
    route = (await app.route())["id"]
    for operation in await operations(app):
        if "limit" in operation.query and "event" not in required(operation):
            answer = await app.ask("GET", f"{place(operation, route)}?{required(operation)}limit={text}")
            assert "1 to 200" in answer.errors["limit"], (operation.path, answer.text)


@pytest.mark.parametrize("text", IDS)
async def test_an_id_that_cannot_be_is_no_crash_anywhere(app: App, text: str) -> None:
    for operation in await operations(app):
        for name in [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]:
            where = place(operation, str(uuid4()), {name: text})
            answer = await app.ask(operation.method, URL(f"{where}?{required(operation)}", encoded=True))
            if answer.status >= 300:
                assert is_problem(answer), (operation.method, where, answer.text)
            assert answer.status < 500


@pytest.mark.parametrize(
    ("name", "value"), [*(("Idempotency-Key", it) for it in KEYS), *(("If-Match", it) for it in VERSIONS)]
)
async def test_a_header_of_commands_that_cannot_be_is_refused(app: App, name: str, value: str) -> None:
    route = (await app.route())["id"]
    for operation in await operations(app):
        if name in operation.headers and operation.path.endswith(("able", "key", "{route}")):
            body: dict[str, object] | None = None if (operation.body or {}).get("required") else {}
            answer = await app.ask(operation.method, place(operation, route), body, headers={name: value})
            assert is_problem(answer), (operation.method, operation.path, answer.text)
            assert (answer.status, name in answer.json["detail"]) in ((400, True), (412, False)), answer.text


async def test_numbers_of_any_size_and_names_given_twice_reach_the_log_byte_for_byte(app: App) -> None:
    data = b'{"n": 123456789012345678901234567890123456789012345, "f": 1.10, "z": -0.0, "a": 1, "a": 2, "u": "\\u00fc"}'

    answer = await app.ask(
        "POST", "/v1/events", data=b'{"tenant":"acme","type":"order.create","data":' + data + b"}", headers=JSON
    )

    assert answer.status == 202, answer.text
    assert [event["data"] for event in await app.events()] == [data]


async def test_a_bomb_of_compressed_blanks_is_refused(app: App) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000

    for where in ("/v1/events", "/v1/tenants/acme/routes"):
        answer = await app.ask("POST", where, data=bomb, headers=JSON | {"Content-Encoding": "gzip"})
        assert is_problem(answer)
        assert answer.status == 413
