"""Requests as they were sent. They are not stored: the event, the route as of the attempt's version, the keys that
signed and the second in which it happened give the same bytes again, by the function that made them.

What belongs to the installation and not to the route - the name of the signature header, the version in User-Agent, the
limit of a transform's size - is taken as it is now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daemon import route_state
from daemon.core.routing.route import Route, evolve
from daemon.core.webhook import request
from daemon.core.webhook.payload import PayloadSource, RenderError
from daemon.core.webhook.request import RequestOptions, WebhookRequest
from daemon.core.webhook.signing import SigningKey
from daemon.keys import Keychain
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.queries.attempts import RecordedExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRequest:
    """A request as it went out but for `secret_headers`, whose values are in it and are nobody's to see."""

    target_url: str
    request: WebhookRequest
    secret_headers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """What a request is made of, beside its event."""

    route: Route
    keys: tuple[SigningKey, ...]
    custom: dict[str, str]
    timestamp: int
    is_test: bool


async def collect(
    database: Database, keychain: Keychain, exchanges: Sequence[RecordedExchange]
) -> list[_Signed | None]:
    """What each of a delivery's requests was made of; None where there was no request, or its secrets are gone."""
    if not exchanges:
        return []
    versions = await _versions(database, exchanges[0])
    return [await _signed(keychain, versions, exchange) for exchange in exchanges]


def rebuild(
    source: PayloadSource, parts: Sequence[_Signed | None], dialect: RequestOptions
) -> list[SentRequest | None]:
    """The requests. A version's body is rendered once; that may take as long as an expression may."""
    bodies: dict[int, bytes | None] = {}
    return [None if part is None else _rebuilt(source, part, bodies, dialect) for part in parts]


async def _versions(database: Database, exchange: RecordedExchange) -> dict[int, Route]:
    """The route in each of its versions."""
    versions: dict[int, Route] = {}
    route: Route | None = None
    for event in await route_log.history(database, exchange.route_id):
        route = evolve(route, route_state.lifecycle(event))
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
        is_test=exchange.is_test,
    )


def _rebuilt(
    source: PayloadSource, part: _Signed, bodies: dict[int, bytes | None], dialect: RequestOptions
) -> SentRequest | None:
    version = part.route.version
    if version not in bodies:
        try:
            bodies[version] = request.body(
                source, part.route.config.payload, is_test=part.is_test, max_bytes=dialect.max_body_bytes
            )
        except RenderError:  # it once could be made; the limits of expressions may have changed since
            bodies[version] = None
    body = bodies[version]
    if body is None:
        return None
    signed = request.dressed(
        body,
        route_id=part.route.id,
        event_id=source.event_id,
        custom=part.custom,
        keys=part.keys,
        timestamp=part.timestamp,
        is_test=part.is_test,
        dialect=dialect,
    )
    return SentRequest(target_url=part.route.config.target_url, request=signed, secret_headers=tuple(part.custom))
