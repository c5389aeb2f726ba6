"""HTTP itself: malformed requests, methods that a path does not have, HEAD."""

from __future__ import annotations

import orjson
import pytest

from tests.support.web.application import App
from tests.support.web.operations import is_problem, operations, place, required

HEAD = b"Host: localhost\r\nConnection: close\r\n"

MALFORMED = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a word": b"hello\r\n\r\n",
    "an unknown version": b"GET / HTTP/9.9\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an endless URL": b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
    "an endless query": b"GET /healthz?" + b"x=1&" * 3000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
    "an endless header": b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"x" * 9000 + b"\r\n\r\n",
    "endless headers": b"GET / HTTP/1.1\r\n" + HEAD + b"X: 1\r\n" * 500 + b"\r\n",
    "a header with a blank": b"GET / HTTP/1.1\r\n" + HEAD + b"X Y: 1\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a length and chunks": b"POST / HTTP/1.1\r\n"
    + HEAD
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: -3\r\n\r\n",
    "a length beyond measure": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "an unknown encoding": b"POST / HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: foo\r\n\r\n0\r\n\r\n",
    "a raw byte in the URL": b"GET /v1/\xff HTTP/1.1\r\n" + HEAD + b"\r\n",
    "NUL in the URL": b"GET /v1/\x00 HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a port beyond measure": b"GET http://a:99999999/ HTTP/1.1\r\n" + HEAD + b"\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=list(MALFORMED))
async def test_what_is_no_http_gets_a_problem_too(app: App, request_bytes: bytes) -> None:
    answer = await app.raw(request_bytes)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.split(b"\r\n")[0]
    assert b"Content-Type: application/problem+json" in head
    assert b"Server: Hookledger\r\n" in head
    assert orjson.loads(body)["detail"]


async def test_limits_of_the_head_are_named(app: App) -> None:
    line = await app.raw(MALFORMED["an endless URL"])
    header = await app.raw(MALFORMED["endless headers"])

    assert b"8190 bytes" in line
    assert b"128 headers" in header


async def test_an_expectation_that_nobody_knows_gets_a_problem(app: App) -> None:
    answer = await app.raw(b"POST /v1/events HTTP/1.1\r\n" + HEAD + b"Expect: foo\r\nContent-Length: 0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 417 ")
    assert b"application/problem+json" in answer


async def test_every_path_refuses_the_methods_that_it_has_not_and_says_which_it_has(app: App) -> None:
    known: dict[str, set[str]] = {}
    for operation in await operations(app):
        known.setdefault(operation.path, set()).add(operation.method)
    for path, methods in known.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} - methods:
            answer = await app.ask(method, path.replace("{tenant}", "acme").replace("{", "").replace("}", ""))
            assert is_problem(answer), (method, path, answer.text)
            assert answer.status == 405
            assert {name.strip() for name in answer.headers["Allow"].split(",")} - {"HEAD"} == methods


async def test_head_is_get_without_its_body(app: App) -> None:
    route = (await app.route())["id"]
    for operation in await operations(app):
        if operation.method == "GET" and operation.is_of_known and not required(operation):
            got, headed = [await app.ask(method, place(operation, route)) for method in ("GET", "HEAD")]
            assert (headed.status, headed.text) == (got.status, "")
            assert headed.headers["Content-Type"] == got.headers["Content-Type"]
