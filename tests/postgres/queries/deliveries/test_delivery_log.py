"""Lists of deliveries, read from each table in stretches."""

from __future__ import annotations

import pytest

from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.queries.deliveries import delivery_log
from eventstore.queries.deliveries.delivery_log import TOP, ListScope
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import ROUTE, TENANTS, attempt


@pytest.mark.parametrize(
    "scope", [ListScope(tenant=TENANTS[0]), ListScope(tenant=TENANTS[0], route_id=ROUTE)], ids=["tenant", "route"]
)
@pytest.mark.parametrize("rows", [1, 2, 3])
async def test_a_delivery_is_not_cut_in_two_by_the_end_of_a_stretch(
    database: Database, scope: ListScope, rows: int
) -> None:
    """Whichever row of a delivery is read first, the matching row is in the same stretch."""
    epochs = await lease.acquire(database, "me", range(16))
    outcomes = ["failed", "failed", "delivered", "failed", "failed"]
    history = [attempt(seq=1, number=number, outcome=word) for number, word in enumerate(outcomes, 1)]
    await recording.flush(database, "me", epochs, Flush(attempts=history), number=1, macs=LOG_MACS)

    stretch = await delivery_log.attempted(database, scope, TOP, rows, outcome="delivered")

    assert [found.position.seq for found in stretch.found] == [1]
    if stretch.down_to is not None:
        assert await delivery_log.attempted(database, scope, stretch.down_to, rows, outcome=None) == ([], None)
