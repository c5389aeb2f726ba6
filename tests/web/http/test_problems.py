"""Every error is application/problem+json and says nothing about our internals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.commands import Commands
from tests.support.web.application import Answer, App, path

JSON = {"Content-Type": "application/json"}


def is_problem(answer: Answer, status: int) -> bool:
    return (
        answer.status == status
        and answer.headers["Content-Type"] == "application/problem+json"
        and answer.json["status"] == status
        and {"type", "title", "status", "detail"} <= set(answer.json)
    )


@pytest.mark.parametrize("where", ["/v1", "/v2/events", "/v1/tenants/acme", "/v1/nothing/%00", "/../etc/passwd"])
async def test_an_unknown_path_is_404(app: App, where: str) -> None:
    answer = await app.ask("GET", where)
    assert is_problem(answer, 404)
    assert answer.json["detail"] == "there is nothing here: see GET /openapi.json, which describes the API"
    assert (await app.ask("GET", "/openapi.json")).status == 200


@pytest.mark.parametrize(
    ("method", "where", "allowed"),
    [
        ("GET", "/v1/events", {"POST"}),
        ("PUT", "/v1/tenants/acme/routes", {"GET", "HEAD", "POST"}),
        ("TRACE", "/v1/tenants", {"GET", "HEAD"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_405_and_says_which_are_right(
    app: App, method: str, where: str, allowed: set[str]
) -> None:
    answer = await app.ask(method, where)

    assert is_problem(answer, 405)
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed


async def test_an_unexpected_error_is_told_by_a_number_only(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_arguments: Any, **_more: Any) -> None:
        raise RuntimeError("canary")

    made = await app.route()
    monkeypatch.setattr(Commands, "disable", broken)
    with capture_logs() as logs:
        answer = await app.ask("POST", path(made, "/disable"))

    assert is_problem(answer, 500)
    assert "canary" not in answer.text
    assert "Traceback" not in answer.text
    (line,) = [line for line in logs if line["event"] == "request.crashed"]
    assert line["number"] in answer.json["detail"]


async def test_a_client_that_leaves_amid_its_body_is_no_error_of_ours(app: App) -> None:
    with capture_logs() as logs:
        _, writer = await asyncio.open_connection(app.client.host, app.client.port)
        writer.write(
            b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.1)

    assert [line for line in logs if line["event"] == "request.crashed"] == []
    assert (await app.ask("GET", "/healthz")).status == 200


async def test_a_body_that_is_not_what_its_headers_say_is_400(app: App) -> None:
    for encoding in ("gzip", "deflate"):
        headers = JSON | {"Content-Encoding": encoding}
        answer = await app.ask("POST", "/v1/tenants/acme/routes", data=b"plain", headers=headers)
        assert is_problem(answer, 400)


async def test_no_answer_names_our_libraries_or_is_kept_by_caches(app: App) -> None:
    for where in ("/v1/tenants", "/v1/nothing", "/healthz", "/metrics"):
        answer = await app.ask("GET", where)
        assert "aiohttp" not in str(answer.headers)
        assert "Python" not in str(answer.headers)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
