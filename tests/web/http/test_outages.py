"""What PostgreSQL keeps from an answer is told to the operator: in the log with the cause, and as a metric."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon.commands import Commands
from daemon.core.gcra import UNUSED, Allowance
from daemon.web.http.outages import OUTAGES
from eventstore.postgres.errors import Saturated, StoreUnavailable
from tests.support.web.application import App, path

EVENT = {"tenant": "acme", "type": "order.create", "data": {}}


def told(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "request.unavailable"]


def counted(app: App) -> float:
    return float(app.services.metrics.requests_unavailable._value.get())


async def test_events_that_cannot_be_stored_are_told_with_the_cause(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """All else may do well: somebody holds a lock on this table alone. The producer is told to repeat, and no cause."""
    monkeypatch.setattr("daemon.web.http.outages.LINES", Allowance(burst=9, per_second=1))
    somebody = await asyncpg.connect(app.database.url)
    await somebody.execute("BEGIN; LOCK TABLE hookledger.domain_event IN EXCLUSIVE MODE")
    with capture_logs() as logs:
        answers = [await app.ask("POST", "/v1/events", EVENT) for _ in range(2)]
    await somebody.close()
    assert [answer.status for answer in answers] == [503, 503]
    assert "lock" not in answers[1].text
    first, second = told(logs)
    assert (first["log_level"], first["method"], first["path"]) == ("warning", "POST", "/v1/events")
    assert "another transaction holds a lock" in second["cause"]
    assert counted(app) == 2
    assert (await app.ask("POST", "/v1/events", EVENT)).status == 202


async def test_of_many_there_is_a_line_now_and_then_with_the_number_of_the_others(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_arguments: Any, **_options: Any) -> None:
        raise StoreUnavailable("no room")

    made = await app.route()
    monkeypatch.setattr(Commands, "disable", refused)
    with capture_logs() as logs:
        for _ in range(4):
            await app.ask("POST", path(made, "/disable"))
        app.client.app[OUTAGES]._arrival = UNUSED  # as if time had passed
        await app.ask("POST", path(made, "/disable"))
    assert [(line["cause"], line["left_out"]) for line in told(logs)] == [("no room", 0), ("no room", 3)]
    assert counted(app) == 5


async def test_too_many_queries_at_once_are_no_outage(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have a metric of their own."""

    async def refused(*_arguments: Any, **_options: Any) -> None:
        raise Saturated("too many queries", hint="ask again")

    made = await app.route()
    monkeypatch.setattr(Commands, "disable", refused)
    with capture_logs() as logs:
        assert (await app.ask("POST", path(made, "/disable"))).status == 503
    assert told(logs) == []
    assert counted(app) == 0
