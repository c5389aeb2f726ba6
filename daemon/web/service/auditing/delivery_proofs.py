"""The proof of a delivery and the moment of its seal, for the API and for the page of the delivery."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime

from aiohttp import web

from daemon.commands import Conflict, NotFound
from daemon.core.delivery.answer import delivery_id
from daemon.core.sealing.proof import DeliveryProof
from daemon.credentials.keys import WrongMasterKey
from daemon.credentials.mac_check import MacCheck, name_of
from daemon.sealing import proofs
from daemon.sealing.proofs import NotKept, NotSealed, NotWhole, ProvenPair
from daemon.telemetry.metrics import Metrics
from daemon.web.access.auth import CALLER
from daemon.web.access.queries import query_database
from daemon.web.http.services import SERVICES
from daemon.web.service.lookup import delivery_pair
from eventstore.postgres.errors import SchemaMismatch
from eventstore.postgres.query_pool import FairShare
from eventstore.queries.auditing import signed_rows
from eventstore.queries.deliveries.delivery_log import ListPosition
from eventstore.seals import places

# A proof needs the hash of each seal that there ever was: a second of computing for every other year, in a thread that
# shares the interpreter's lock with everybody. So one is made at a time.
SLOTS = web.AppKey("proof_slots", FairShare)

_CONCURRENT = 1
_PATIENCE_SECONDS = 5.0


def slots(metrics: Metrics) -> FairShare:
    """Places for making proofs."""
    return FairShare(
        places=_CONCURRENT, of_one=_CONCURRENT, on_refused=metrics.query_refused, patience_seconds=_PATIENCE_SECONDS
    )


def making(request: web.Request) -> AbstractAsyncContextManager[None]:
    """The time in which a proof is made. Raises Saturated if others take too long."""
    return request.app[SLOTS].place(request[CALLER].tenant or "")


async def proof_of(request: web.Request) -> DeliveryProof:
    """The proof of the delivery in the path. Raises Conflict if it is not sealed yet, or not what was sealed, NotFound
    if its event is no longer kept, and like `delivery_pair` and `making`.
    """
    pair = await delivery_pair(request)
    wanted = ProvenPair(
        delivery=delivery_id(pair.route_id, pair.event_id, pair.event_time),
        tenant=request.match_info["tenant"],
        event=pair.event_id,
        event_time=pair.event_time,
        seq=pair.seq,
        route_id=pair.route_id,
    )
    try:
        async with making(request):
            await _require_ours(request, wanted)
            return await proofs.of_delivery(query_database(request), wanted)
    except (NotSealed, NotWhole) as error:
        raise Conflict(str(error)) from error
    except NotKept as error:
        raise NotFound(str(error)) from error


async def _require_ours(request: web.Request, pair: ProvenPair) -> None:
    """Nothing is proven of a delivery of which a row was written by nobody of ours. Raises NotWhole."""
    database = query_database(request)
    try:
        check = await MacCheck.read(database, request.app[SERVICES].keychain.vault)
    except (SchemaMismatch, WrongMasterKey) as error:
        raise NotWhole(str(error)) from error
    for each in await signed_rows.of_delivery(database, pair.route_id, pair.seq, event_time=pair.event_time):
        if check is None or (detail := check.fault(each)) is not None:
            what = "has no MAC that can be checked" if check is None else detail
            raise NotWhole(f"{name_of(each)} {what}: run hookledger audit")


async def sealed_at_of(request: web.Request, at: ListPosition) -> datetime | None:
    """When the last row of a delivery was sealed; None if one is not sealed yet, or the event is no longer kept."""
    sealed = await places.of_delivery(query_database(request), at.route_id, at.seq, event_time=at.event_time)
    return None if sealed is None else sealed.sealed_at
