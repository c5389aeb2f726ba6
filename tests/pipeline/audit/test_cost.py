"""What an audit of an event costs does not depend on how many routes its tenant has that cannot match."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest

from daemon import audit
from daemon.audit import AuditReport
from daemon.core.routing.timeline import Timeline
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.snapshot import Snapshot
from eventstore.queries.auditing import audited
from eventstore.queries.auditing.audited import AuditedRecord
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver

OTHERS = 200


class Costs:
    """The routes of which rows were asked for, the rows that came, and the states of routes that were looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.routes = self.rows = self.looks = 0
        record, outline = audited.record, Timeline.outline

        async def counted(connection: Snapshot, routes: Sequence[UUID], events: Sequence[StoredEvent]) -> AuditedRecord:
            found = await record(connection, routes, events)
            self.routes += len(routes)
            self.rows += len(found.attempts) + len(found.retries) + len(found.parked)
            return found

        def looked(*arguments: object) -> object:
            self.looks += 1
            return outline(*arguments)  # type: ignore[arg-type] # passed on

        monkeypatch.setattr(audited, "record", counted)
        monkeypatch.setattr(Timeline, "outline", looked)

    def take(self) -> tuple[int, int, int]:
        taken = self.routes, self.rows, self.looks
        self.routes = self.rows = self.looks = 0
        return taken


async def audited_all(it: PipelineProcess) -> AuditReport:
    return await audit.audit(it.database, start=audit.BEGINNING, end=audit.END)


async def test_routes_that_cannot_match_cost_an_event_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = Costs(monkeypatch)
    async with receiver() as there, pipeline_process(database_url) as it:
        for _ in range(2):
            await it.route(there.url, "order.*")
        ids = await it.publish("order.create", count=20)
        await it.until_accounted()
        costs.take()  # those of deciding
        alone = await audited_all(it)
        few = costs.take()
        for number in range(OTHERS):
            await it.route(there.url, f"invoice.t{number}")
        among_many = await audited_all(it)
        many = costs.take()
    assert len(ids) == alone.events == 20
    assert (alone.pairs, alone.found) == (40, 0)
    assert among_many == alone
    assert many == few
    assert few[:2] == (2, 40)
