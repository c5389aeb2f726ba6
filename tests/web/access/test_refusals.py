"""The log line of a refused request: who made it and why it was refused, without secrets."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.core.gcra import UNUSED, Allowance
from daemon.web.access.refusals import REFUSALS
from tests.support.web.application import App, app
from tests.support.web.tokens import bearer, id_in, token

ADMIN = "correct horse battery staple"


def refused(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "request.refused"]


async def test_a_refused_command_is_one_line(app: App) -> None:
    with capture_logs() as logs:
        await app.ask("POST", "/v1/tenants/acme/routes?secret=canary", {"name": "canary"})
    assert refused(logs) == [
        {
            "event": "request.refused",
            "log_level": "info",
            "method": "POST",
            "path": "/v1/tenants/acme/routes",
            "status": 422,
            "actor": "admin",
            "claimed": None,
            "reason": "some fields are not valid",
            "left_out": 0,
        }
    ]
    assert "canary" not in str(logs)


async def test_a_token_that_lacks_access_is_named_and_one_that_is_dead_by_its_claim(empty_url: str) -> None:
    async with app(empty_url, server__admin_token=ADMIN) as opened:
        text = await token(opened.database, "metrics")
        wrong = text[:-64] + "0" * 64
        with capture_logs() as logs:
            for each in (text, wrong, "hl_nonsense"):
                await opened.ask("GET", "/v1/tenants", headers=bearer(each))
    named = [(line["status"], line["actor"], line["claimed"]) for line in refused(logs)]
    assert named == [(403, f"token:{id_in(text)}", None), (401, None, id_in(text)), (401, None, None)]
    for each in (text, wrong, "hl_nonsense"):
        assert each not in str(logs)


async def test_what_is_read_or_done_is_no_line(app: App) -> None:
    with capture_logs() as logs:
        await app.ask("GET", "/v1/tenants")
        await app.ask("GET", "/v1/tenants/acme/routes/x")
        await app.route()
    assert refused(logs) == []


async def test_the_secret_of_a_login_link_is_never_in_the_log(app: App) -> None:
    with capture_logs() as logs:
        await app.ask("POST", "/login/canary")
        await app.ask("DELETE", "/login/canary/canary?canary")
    assert [line["path"] for line in refused(logs)] == ["/login/…"] * 2
    assert "canary" not in str(logs)


@pytest.mark.parametrize("before", ["/hooks", "/a/b"])
async def test_nor_is_it_where_a_proxy_leaves_its_own_path_before_ours(app: App, before: str) -> None:
    secret = f"canary-_{'x' * 35}"
    with capture_logs() as logs:
        assert (await app.ask("POST", f"{before}/login/{secret}")).status == 404
    assert [line["path"] for line in refused(logs)] == [f"{before}/login/…"]
    assert "canary" not in str(logs)


async def test_a_token_in_the_place_of_its_id_is_never_in_the_log(app: App) -> None:
    text = await token(app.database, "producer")
    with capture_logs() as logs:
        for each in (text, text[:-1], text.upper()):
            assert (await app.ask("DELETE", f"/v1/tokens/{each}")).status == 404
    assert [line["path"][-5:].lower() for line in refused(logs)] == [f"{id_in(text)[-3:]}_…"] * 3
    assert text[-60:-1] not in str(logs).lower()


async def test_beyond_so_many_lines_their_number_is_told(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.web.access.refusals.LINES", Allowance(burst=2, per_second=1e-6))
    with capture_logs() as logs:
        for _ in range(5):
            await app.ask("POST", "/v1/events")
        app.client.app[REFUSALS]._arrival = UNUSED  # as if time had passed
        await app.ask("POST", "/v1/events")
    assert [line["left_out"] for line in refused(logs)] == [0, 0, 3]
