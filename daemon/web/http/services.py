"""What handlers need, in one frozen object under one application key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from daemon import __version__
from daemon.catalogue import Catalogue
from daemon.commands import Commands
from daemon.config import Config
from daemon.core.routing.index import RouteIndex
from daemon.core.webhook.request import RequestOptions
from daemon.keys import Keychain
from daemon.metrics import Metrics
from daemon.tokens import Tokens
from eventstore.postgres.connect import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """`index` is the live projection's; `hurry` asks for a tick; `readiness` names what keeps us from being ready."""

    config: Config
    database: Database
    commands: Commands
    keychain: Keychain
    tokens: Tokens
    catalogue: Catalogue
    index: RouteIndex
    metrics: Metrics
    hurry: Callable[[], None]
    readiness: Callable[[], Awaitable[list[str]]]
    now: Callable[[], datetime]


SERVICES = web.AppKey("services", Services)


# What is the same for every webhook of this installation, by its configuration.


def request_options(config: Config) -> RequestOptions:
    return RequestOptions(
        signing_header=config.signing.header,
        standard_webhooks=config.signing.standard_webhooks,
        user_agent=f"Hookledger/{__version__}",
        max_body_bytes=config.events.max_bytes,
    )
