"""The sections and keys of the configuration with their defaults, and the policies of the core that they define.

The one thing to know: a key added here works in the file, in the environment and in `config show` without further code.
The value of a `Secret` key may also be in a file of its own (`…_FILE`), and is never quoted. A reload builds everything
anew, so it takes a new value of every key except those whose type has a `NeedsRestart`.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Self, get_args

from pydantic import Field

from daemon.config import event_sources
from daemon.config.event_sources import SourceSection
from daemon.config.values import (
    SIGNATURE_HEADER,
    Accent,
    AllowedHosts,
    AllowedNetworks,
    CollectorUrl,
    DashboardName,
    DatabaseUrl,
    Days,
    Duration,
    FilePath,
    HeaderName,
    Listen,
    ListenAddress,
    MasterKeys,
    Origins,
    Ports,
    Positive,
    PositiveSeconds,
    ProxyUrl,
    PublicSealKeys,
    PublicUrl,
    ReturnUrl,
    Secret,
    SecretText,
    Section,
    TenantName,
)
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.sealing.head import PublicSealKey
from daemon.core.webhook.egress import EgressPolicy


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class NeedsRestart:
    """In the type of a key: a running daemon cannot change it. `why` is the first half of a sentence about the key."""

    why: str


_BOUND = NeedsRestart("addresses are bound when the daemon starts")
_ONE_DATABASE = NeedsRestart("a running daemon stays with its database")
_KNOWN_BY_ALL = NeedsRestart("all processes must know a key before one seals with it")


class ServerSection(Section):
    """`max_connections` is for each process; a process with too few files to open gets by with less. `trusted_proxies`
    are believed about the addresses of their clients.
    """

    listen: Annotated[Listen, _BOUND] = ListenAddress(host="127.0.0.1", port=8080)
    public_url: PublicUrl | None = None
    ops_listen: Annotated[Listen | None, _BOUND] = None
    admin_token: SecretText | None = None
    max_connections: Positive = 1000
    trusted_proxies: AllowedNetworks = ()

    def url(self, bound: ListenAddress | None = None) -> str:
        """`public_url`, or else a URL of the listen address; `bound` is that address with the port the system chose."""
        if self.public_url is not None:
            return self.public_url
        address = bound or self.listen
        is_everywhere = address.host in {"0.0.0.0", "::"}  # noqa: S104 - recognised, not bound
        return f"http://{ListenAddress(host='localhost', port=address.port) if is_everywhere else address}"


class DatabaseSection(Section):
    """`url` None means the embedded PostgreSQL in `data_dir`.

    A process has three pools, so that none of these uses takes the connections of another: `pool_size` connections for
    deliveries, `command_connections` for publishing, commands and identifying callers, `query_connections` for what is
    only read for the API and the dashboard.
    """

    url: Annotated[DatabaseUrl | None, _ONE_DATABASE] = None
    data_dir: Annotated[FilePath, _ONE_DATABASE]
    pool_size: Annotated[int, Field(ge=2, le=1000)] = 8
    command_connections: Annotated[int, Field(ge=2, le=1000)] = 4
    query_connections: Annotated[int, Field(ge=2, le=1000)] = 4


class EgressSection(Section):
    allow_http: bool = False
    ports: Ports = (443, 8443)
    allow_nets: AllowedNetworks = ()
    deny_nets: AllowedNetworks = ()
    allow_hosts: AllowedHosts = ()
    proxy: ProxyUrl | None = None
    extra_ca_file: FilePath | None = None


class DeliverySection(Section):
    timeout_seconds: PositiveSeconds = 15.0
    concurrency: Positive = 256
    route_concurrency: Positive = 16
    retry_first_seconds: PositiveSeconds = 60.0
    retry_factor: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] = 2.0
    retry_cap_seconds: PositiveSeconds = 600.0
    retry_attempts: Annotated[int, Field(ge=1, le=1000)] = 60
    retry_jitter: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.1
    breaker_failures: Positive = 20
    auto_disable_after: Duration | None = None


class SigningSection(Section):
    """`master_key` None means the key file in the data directory, created if missing. The first key encrypts."""

    header: HeaderName = SIGNATURE_HEADER
    standard_webhooks: bool = True
    master_key: Annotated[MasterKeys | None, _KNOWN_BY_ALL] = None

    @property
    def master_keys(self) -> tuple[bytes, ...]:
        return tuple(base64.b64decode(key.reveal()) for key in self.master_key or ())


class EventsSection(Section):
    max_bytes: Annotated[int, Field(ge=1024, le=64 << 20)] = 262_144
    batch_max: Positive = 10_000
    strict_types: bool = False


class RetentionSection(Section):
    events_days: Days = 30
    attempts_days: Days = 30


class LimitsSection(Section):
    """Limits of each tenant; the administrator is exempt."""

    routes_per_tenant: Positive = 1000
    commands_per_minute: Positive = 120


class OperationsSection(Section):
    """`tenant` gets the operational events, None: nobody. With `tell_tenants` a tenant gets those about its own
    webhooks.
    """

    tenant: TenantName | None = None
    tell_tenants: bool = False


class SealSection(Section):
    """`former_keys` are public keys, as `GET /v1/seals/key` shows them, that earlier seals were signed with: those of
    master keys that are no longer configured.
    """

    every_seconds: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 60.0
    anchor_file: FilePath | None = None
    former_keys: PublicSealKeys = ()

    @property
    def former_public_keys(self) -> tuple[bytes, ...]:
        return tuple(PublicSealKey.parse(text).key for text in self.former_keys)


class DashboardSection(Section):
    """How the dashboard looks in somebody else's house. `frame_ancestors` are the pages that may show it in a frame."""

    name: DashboardName = "Hookledger"
    logo_file: FilePath | None = None
    accent: Accent | None = None
    return_url: ReturnUrl | None = None
    frame_ancestors: Origins = ()


class LogSection(Section):
    """`format` None means console if the output is a terminal, else json."""

    level: LogLevel = LogLevel.INFO
    format: LogFormat | None = None
    successes_per_second: Annotated[int, Field(ge=0)] = 50


class TracingSection(Section):
    """`endpoint` of an OpenTelemetry collector, None: nobody traces. `max_per_second` spans are made in a process."""

    endpoint: CollectorUrl | None = None
    sample_ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    max_per_second: Positive = 50
    propagate: bool = False

    @property
    def propagated_ratio(self) -> float | None:
        """The ratio of traces that receivers are told of, None if they are told of none."""
        return self.sample_ratio if self.endpoint is not None and self.propagate else None


class Config(Section):
    server: ServerSection
    database: DatabaseSection
    egress: EgressSection
    delivery: DeliverySection
    signing: SigningSection
    events: EventsSection
    retention: RetentionSection
    limits: LimitsSection
    operations: OperationsSection
    seal: SealSection
    dashboard: DashboardSection
    log: LogSection
    tracing: TracingSection
    sources: Mapping[str, SourceSection] = {}
    dev: bool = False

    def with_database(self, url: Secret | None) -> Self:
        """The same with another `database.url`."""
        return self.model_copy(update={"database": self.database.model_copy(update={"url": url})})

    @property
    def egress_policy(self) -> EgressPolicy:
        own, dev = self.egress, EgressPolicy.dev()
        return EgressPolicy(
            allow_http=own.allow_http or self.dev,
            ports=None if self.dev else frozenset(own.ports),
            allow_nets=own.allow_nets + (dev.allow_nets if self.dev else ()),
            deny_nets=own.deny_nets,
            allow_hosts=own.allow_hosts,
        )

    @property
    def retry_policy(self) -> RetryPolicy:
        own = self.delivery
        return RetryPolicy(
            first=timedelta(seconds=own.retry_first_seconds),
            factor=own.retry_factor,
            cap=timedelta(seconds=own.retry_cap_seconds),
            attempts=own.retry_attempts,
            jitter=own.retry_jitter,
        )


def _holds_secret(annotation: object) -> bool:
    return annotation is Secret or any(_holds_secret(part) for part in get_args(annotation))


SECTIONS: Final[Mapping[str, type[Section]]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}


def model_of(section: str) -> type[Section]:
    """The keys of a section, which may be that of a source."""
    return SourceSection if section.startswith(event_sources.PREFIX) else SECTIONS[section]


def is_secret(section: str, key: str) -> bool:
    """Whether the value of a key may be in a file of its own, and is never quoted."""
    return _holds_secret(model_of(section).model_fields[key].annotation)


KEYS: Final = tuple((section, key) for section, model in SECTIONS.items() for key in model.model_fields)
NEEDS_RESTART: Final = {
    (section, key): mark.why
    for section, key in KEYS
    for mark in SECTIONS[section].model_fields[key].metadata
    if isinstance(mark, NeedsRestart)
}
