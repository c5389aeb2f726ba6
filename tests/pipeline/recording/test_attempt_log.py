"""The log line of each attempt: every failure has one, successes are sampled and the line says how many were left out."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from daemon.pipeline.recording.attempt_log import AttemptLog
from tests.support.values.deliveries import delivery, outcome


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [10.0]
    monkeypatch.setattr("daemon.pipeline.recording.attempt_log.time.monotonic", lambda: now[0])
    return now


def test_a_line_names_the_delivery_and_no_secret() -> None:
    one = delivery()
    with capture_logs() as lines:
        AttemptLog(successes_per_second=1, on_left_out=lambda _lines: pytest.fail("none is left out"))(
            [outcome(one)], [one]
        )
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


@pytest.mark.parametrize("rate", [0, 1, 50])
def test_successes_above_the_rate_are_counted_and_failures_always_written(clock: list[float], rate: int) -> None:
    left_out: list[int] = []
    write = AttemptLog(successes_per_second=rate, on_left_out=left_out.append)
    with capture_logs() as lines:
        write([outcome(delivery(n)) for n in range(rate + 30)], [])
        write([outcome(delivery(n), "failed") for n in range(900, 1000)], [])
        write([outcome(delivery(1000))], [])
    assert [line["outcome"] for line in lines] == ["delivered"] * rate + ["failed"] * 100
    assert [line["successes_left_out"] for line in lines[rate:]] == [30] + [0] * 99
    assert left_out == [30, 1]
    clock[0] += 1
    with capture_logs() as lines:
        write([outcome(delivery(1001)), outcome(delivery(1002), "retrying")], [])
    assert [line["successes_left_out"] for line in lines] == ([1, 0] if rate else [2])
