"""What handlers need, in one frozen object under one application key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from daemon.catalogue import Catalogue
from daemon.commands import Commands
from daemon.config import Config
from daemon.core.index import RouteIndex
from daemon.keys import Keychain
from daemon.metrics import Metrics
from daemon.tokens import Tokens
from eventstore.connect import Database


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
