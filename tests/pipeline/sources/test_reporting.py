"""What a process exposes of its sources."""

from __future__ import annotations

from daemon.operations import NOBODY
from daemon.sources.news import SourceNews
from daemon.sources.reporting import SourceReport
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.connect import Database


async def test_of_a_source_that_is_no_longer_taken_nothing_is_wrong_and_nothing_waits() -> None:
    metrics = Metrics()
    database = Database("postgresql:///nowhere", pool_size=1)  # never opened: what it is told is lost
    report = SourceReport("shop", database, metrics, SourceNews("shop", NOBODY, print), owner="me")
    await report.failed("no broker answers")
    await report.standing({1: 70}, {1: 10})

    def shown() -> list[float | None]:
        names = ("hookledger_source_faulty", "hookledger_source_lag")
        return [metrics.registry.get_sample_value(name, {"source": "shop"}) for name in names]

    assert shown() == [1, 60]
    await report.left()
    assert shown() == [0, 0]
