"""Makes the requests of past attempts anew, as they were sent.

Requests are not stored. The function that made one makes the same bytes again, from the event, the route in the version
of the attempt, the keys that signed it and the second in which it was signed.

Settings of the installation are taken as they are now: the name of the signature header, the version in User-Agent, and
the size limit of a transform's result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon import route_state
from daemon.core.delivery.answer import delivery_id
from daemon.core.events import trace_context
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import PayloadOptions, Route
from daemon.core.webhook import request
from daemon.core.webhook.payload import PayloadEvent, RenderError
from daemon.core.webhook.request import RequestOptions, WebhookRequest
from daemon.core.webhook.signing import SigningKey
from daemon.credentials.keys import Keychain
from daemon.expressions import rendering
from daemon.expressions.judging import FilterPlaces
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries.attempts import RecordedExchange

# Bodies of one delivery, which may be sent again for weeks while its route is edited: each may take a tenth of a
# second, and as many bytes as an event.
MAX_BODIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRequest:
    """A request as it was sent. It contains the values of `secret_headers`, which must not be shown to anybody."""

    target_url: str
    request: WebhookRequest
    secret_headers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """What a request was made of, beside its event. `timestamp` is in unix seconds."""

    route: Route
    keys: tuple[SigningKey, ...]
    custom: dict[str, str]
    timestamp: int
    number: int
    is_test: bool


async def collect(
    database: Database, index: RouteIndex, keychain: Keychain, exchanges: Sequence[RecordedExchange]
) -> list[_Signed | None]:
    """What each request of one delivery was made of. None if there was no request, or if its secrets are gone."""
    if not exchanges:
        return []
    versions = await _versions(database, index, exchanges)
    return [await _signed(keychain, versions, exchange) for exchange in exchanges]


async def rebuild(
    event: PayloadEvent,
    parts: Sequence[_Signed | None],
    request_options: RequestOptions,
    *,
    tenant: str,
    places: FilterPlaces | None,
) -> list[SentRequest | None]:
    """The requests, None where `parts` is None or the body cannot be rendered any more.

    The expressions of the routes are evaluated at `places`, once for each of the newest MAX_BODIES payload options that
    these had; what was sent with others is None as well. Raises Saturated.
    """
    bodies: dict[PayloadOptions, bytes | None] = {}
    for part in reversed(parts):
        if part is None or (options := _options(part)) in bodies:
            continue
        if len(bodies) == MAX_BODIES:
            break
        try:
            bodies[options] = await rendering.body(
                places, tenant, event, options, max_bytes=request_options.max_body_bytes
            )
        except RenderError:  # the limits of expressions may have changed since it was sent
            bodies[options] = None
    # Two signatures of each, which together may take long.
    return await asyncio.to_thread(
        lambda: [None if part is None else _rebuilt(event, part, bodies, request_options) for part in parts]
    )


def _options(part: _Signed) -> PayloadOptions:
    return request.options_of(part.route.config.payload, is_test=part.is_test)


async def _versions(database: Database, index: RouteIndex, exchanges: Sequence[RecordedExchange]) -> dict[int, Route]:
    """The route in the versions of these exchanges. The log is read only for what this process has not applied yet: a
    history may be long.
    """
    wanted = {exchange.route_version for exchange in exchanges}
    timeline = index.timeline(exchanges[0].route_id)
    known = {} if timeline is None else {version: timeline.of_version(version) for version in wanted}
    versions = {version: route for version, route in known.items() if route is not None}
    if wanted <= versions.keys():
        return versions
    route = None if timeline is None else timeline.current
    applied = 0 if route is None else route.version
    for event in await route_log.history(database, exchanges[0].route_id, after_version=applied):
        route = route_state.following(route, event)
        if route.version in wanted:
            versions[route.version] = route
    return versions


async def _signed(keychain: Keychain, versions: dict[int, Route], exchange: RecordedExchange) -> _Signed | None:
    route = versions.get(exchange.route_version)
    if route is None or exchange.number == 0 or exchange.key_ids is None:
        return None
    secrets = await keychain.secrets_of(route, exchange.key_ids.split(","))
    if secrets is None:
        return None
    keys, custom = secrets
    return _Signed(
        route=route,
        keys=keys,
        custom=custom,
        timestamp=int(exchange.started_at.timestamp()),
        number=exchange.number,
        is_test=exchange.is_test,
    )


def _rebuilt(
    event: PayloadEvent,
    part: _Signed,
    bodies: Mapping[PayloadOptions, bytes | None],
    request_options: RequestOptions,
) -> SentRequest | None:
    body = bodies.get(_options(part))
    if body is None:
        return None
    message_id = delivery_id(part.route.id, event.event_id, event.created)
    signed = request.with_headers(
        body,
        hops=event.hops,
        message_id=message_id,
        custom=part.custom,
        keys=part.keys,
        timestamp=part.timestamp,
        is_test=part.is_test,
        request_options=request_options,
    )
    if (ratio := request_options.trace_ratio) is not None:
        trace = trace_context.of_attempt(event.context, delivery_id=message_id, number=part.number, sample_ratio=ratio)
        signed = WebhookRequest(signed.body, signed.headers | trace_context.headers(trace))
    return SentRequest(target_url=part.route.config.target_url, request=signed, secret_headers=tuple(part.custom))
