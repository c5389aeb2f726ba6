"""The log line of each attempt: every failure has one, successes are sampled and the line says how many were left out."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from daemon.pipeline.recording.attempt_log import SUCCESS_LINES_PER_SECOND, AttemptLog
from tests.support.deliveries import delivery, outcome


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [10.0]
    monkeypatch.setattr("daemon.pipeline.recording.attempt_log.time.monotonic", lambda: now[0])
    return now


def test_a_line_names_the_delivery_and_no_secret() -> None:
    one = delivery()
    with capture_logs() as lines:
        AttemptLog()([outcome(one)], [one])
    (line,) = lines
    assert line == {
        "event": "delivery.attempted",
        "log_level": "info",
        "tenant": "acme",
        "route_id": str(one.route_id),
        "event_id": "evt_1",
        "event_type": "order.create",
        "attempt": 1,
        "outcome": "delivered",
        "status": 200,
        "error": None,
        "duration_ms": 5,
        "successes_left_out": 0,
    }


def test_successes_above_the_rate_are_counted_and_failures_always_written(clock: list[float]) -> None:
    write = AttemptLog()
    with capture_logs() as lines:
        write([outcome(delivery(n)) for n in range(SUCCESS_LINES_PER_SECOND + 30)], [])
        write([outcome(delivery(999), "failed")], [])
        write([outcome(delivery(1000))], [])
    assert len(lines) == SUCCESS_LINES_PER_SECOND + 1
    assert (lines[-1]["outcome"], lines[-1]["successes_left_out"]) == ("failed", 30)
    clock[0] += 1
    with capture_logs() as lines:
        write([outcome(delivery(1001))], [])
    assert [line["successes_left_out"] for line in lines] == [1]
