"""The types of single values, and how each is read from an environment variable or a TOML value.

The one thing to know: the user reads the message of a ValueError raised here, after the name of the key. It says what
the value must be, and quotes the value only if that cannot be a secret.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from daemon.config import accents
from daemon.config.accents import AccentPair
from daemon.core import durations, texts
from daemon.core.drafts.login_link_draft import is_loopback, return_url_problem
from daemon.core.drafts.route_headers import is_reserved
from daemon.core.events.event import tenant_problem
from daemon.core.sealing.head import MalformedHead, PublicSealKey
from daemon.core.webhook import expression, host_names
from eventstore.postgres.errors import MalformedUrl
from eventstore.postgres.servers import database_url

MASK: Final = "***"
MASTER_KEY_BYTES: Final = 32
SIGNATURE_HEADER: Final = "OrderGroove-Signature"

MAX_DASHBOARD_NAME_CHARACTERS: Final = 64

_PORT_DIGITS: Final = 5

# A name, or an address of either version; a port of at most five digits.
_ORIGIN: Final = re.compile(
    r"https://(?:[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9](?:[a-z0-9-]{0,62}))*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
)
_TOPIC: Final = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9._-]{1,249}")
_GROUP: Final = re.compile(r"[!-~]{1,249}")
# Every link and every redirect begins with its path.
_PUBLIC_URL: Final = re.compile(r"[A-Za-z0-9\-._~:/\[\]@!$&()*+,;=%]+")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")


class Secret:
    """A text that is masked in logs, tracebacks and f-strings. `reveal` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """A host and port to listen on; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _text(value: object) -> str:
    """A text that no name of a file, address or header has to refuse. It may have lines, as expressions do."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text")
    if (problem := texts.problem(value.strip(), has_lines=True)) is not None:
        raise ValueError(problem)
    return value.strip()


def _secret_line(value: object) -> str:
    text = _text(value)
    if (problem := texts.problem(text)) is not None:
        raise ValueError(problem)
    return text


class _NoPort(ValueError):
    """A number that no port has."""


def host_and_port(value: object) -> ListenAddress:
    """An address with its port. Raises ValueError for anything else."""
    host, colon, port = (_text(value) if isinstance(value, str) else "").rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(ip_address(host[1:-1]))
    elif ":" in host:
        raise ValueError("an IPv6 address is written in brackets: [::1]:8080")
    if not colon or not host or not port.isascii() or not port.isdigit():
        raise ValueError("must be host:port, such as 127.0.0.1:8080")
    if len(port) > _PORT_DIGITS or int(port) > 0xFFFF:
        raise _NoPort(f"there is no port {port[: _PORT_DIGITS + 1]}; the highest is 65535")
    return ListenAddress(host=host, port=int(port))


def _duration(value: object) -> timedelta:
    return durations.parse(value if isinstance(value, str) else "")


def _list(value: object) -> object:
    """The items of a list, which an environment variable holds as one text with commas or line ends."""
    if isinstance(value, str):
        if _has_brackets(value.strip()):
            raise ValueError("must have its items separated by commas, without brackets and quotes, like this: a,b")
        return [item.strip() for item in re.split(r"[,\n]", value) if item.strip()]
    return value if isinstance(value, list) else [value]


def _has_brackets(text: str) -> bool:
    """True for a list as a file has it, and not for an IPv6 address."""
    if not (text.startswith("[") and text.endswith("]")):
        return False
    try:
        ip_address(text[1:-1])
    except ValueError:
        return True
    return False


def _nonempty_list(value: object) -> object:
    if not (items := _list(value)):
        raise ValueError("must not be an empty list; leave the key out instead")
    return items


def _required_list(example: str) -> BeforeValidator:
    """The items of a list that is not empty, and has no default."""

    def check(value: object) -> object:
        if not (items := _list(value)):
            raise ValueError(f"must not be an empty list; name at least one, such as {example}")
        return items

    return BeforeValidator(check)


def _network(value: object) -> IPv4Network | IPv6Network:
    text = _text(value)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network such as 10.0.0.0/8 or fd00::/8") from None
    if network.network_address != ip_address(text.partition("/")[0]):
        raise ValueError(f"{text!r} has bits set beyond its prefix; did you mean {network}?")
    return network


def _host(value: object) -> str:
    text = _text(value).lower()
    if (problem := host_names.pattern_problem(text)) is not None:
        raise ValueError(problem)
    return text


def _url(*schemes: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = _text(value)
        try:
            parts = urlsplit(text)
            is_valid = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            is_valid = False
        if not is_valid:
            raise ValueError(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return text

    return check


def _collector_url(value: object) -> str:
    text = _url("http", "https")(value)
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "must have no user, password or query, which would be shown; set OTEL_EXPORTER_OTLP_HEADERS instead"
        )
    return text


def _database_url(value: object) -> str:
    text = _text(value)
    try:
        database_url.parsed(text)
    except MalformedUrl as error:
        raise ValueError(f"{str(error).removeprefix('database.url ')}; {error.hint}") from None
    return text


def _public_url(value: object) -> str:
    text = _url("http", "https")(value)
    parts = urlsplit(text)
    is_ours = not (parts.query or parts.fragment or parts.username is not None) and "//" not in parts.path.rstrip("/")
    if not is_ours or not _PUBLIC_URL.fullmatch(text):
        raise ValueError("must be the address of the dashboard only, such as https://hooks.example.com")
    return text.rstrip("/")


def _master_key(value: object) -> str:
    text = _text(value)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise ValueError("must be base64 of 32 bytes; make one with: openssl rand -base64 32")
    return text


def _tenant(value: object) -> str:
    text = _text(value)
    problem = tenant_problem(text)
    if problem is not None:
        raise ValueError(problem)
    return text


def _public_seal_key(value: object) -> str:
    text = _text(value)
    try:
        return PublicSealKey.parse(text).text
    except MalformedHead as error:
        raise ValueError("must be a public key of seals, as GET /v1/seals/key shows it: name+id+base64") from error


def _header_name(value: object) -> str:
    text = _text(value)
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError("must be a header name: 1 to 64 letters, digits or hyphens")
    is_own = text.lower() == SIGNATURE_HEADER.lower()
    if (is_reserved(text, signing_header="") and not is_own) or text.lower() == "accept":  # each request has one
        raise ValueError(f"{text} has another meaning in HTTP or in a webhook; choose a name of your own")
    return text


def _dashboard_name(value: object) -> str:
    text = _text(value)
    if len(text) > MAX_DASHBOARD_NAME_CHARACTERS:
        raise ValueError(f"has {len(text)} characters, {MAX_DASHBOARD_NAME_CHARACTERS} are allowed")
    if (problem := texts.problem(text)) is not None:
        raise ValueError(problem)
    return text


def _accent(value: object) -> AccentPair:
    items = _list(value)
    return accents.pair([_text(item) for item in items] if isinstance(items, list) else [])


def _return_url(value: object) -> str:
    text = _text(value)
    if (problem := return_url_problem(text)) is not None:
        raise ValueError(problem)
    return text


def _origin(value: object) -> str:
    text = _text(value).lower()
    if not _ORIGIN.fullmatch(text) or not 0 < (_url_port(text) or 1) <= 0xFFFF:
        raise ValueError(
            f"{text!r} must be an exact origin such as https://shop.example.com: no wildcard, no path, no other scheme"
        )
    return text.removesuffix(":443")


def _url_port(origin: str) -> int | None:
    port = origin.rpartition(":")[2]
    return int(port) if port.isdigit() else None


def _broker(value: object) -> str:
    try:
        address = host_and_port(value)
    except _NoPort as error:
        raise ValueError(f"{value!r} is no broker: {error}") from None
    except ValueError:
        raise ValueError(f"{value!r} is no broker: write host:port, such as kafka.example.com:9092") from None
    if address.port == 0:
        raise ValueError(f"{value!r} is no broker: it has no port to connect to, such as 9092")
    return str(address)


def _topic(value: object) -> str:
    text = _text(value)
    if not _TOPIC.fullmatch(text):
        raise ValueError(f"{text!r} is no topic: those have 1 to 249 letters, digits, dots, hyphens and underscores")
    return text


def _group_name(value: object) -> str:
    text = _text(value)
    if not _GROUP.fullmatch(text):
        raise ValueError("must be 1 to 249 printable ASCII characters without spaces")
    return text


def _expression(value: object) -> str:
    text = _text(value)
    if (problem := expression.problem(text)) is not None:
        raise ValueError(f"{text!r} {problem}")
    return text


def _path(value: object) -> Path:
    return Path(_text(value))


def _secret(check: Callable[[object], str]) -> BeforeValidator:
    def wrap(value: object) -> Secret:
        return Secret(check(value))

    return BeforeValidator(wrap)


Brokers = Annotated[tuple[Annotated[str, BeforeValidator(_broker)], ...], _required_list("kafka.example.com:9092")]
DatabaseUrl = Annotated[Secret, _secret(_database_url)]
Days = Annotated[int, Field(ge=1, le=36_500)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Expression = Annotated[str, BeforeValidator(_expression)]
FilePath = Annotated[Path, BeforeValidator(_path)]
GroupName = Annotated[str, BeforeValidator(_group_name)]
HeaderName = Annotated[str, BeforeValidator(_header_name)]
Listen = Annotated[ListenAddress, BeforeValidator(host_and_port)]
MasterKeys = Annotated[tuple[Annotated[Secret, _secret(_master_key)], ...], BeforeValidator(_nonempty_list)]
AllowedNetwork = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
AllowedNetworks = Annotated[tuple[AllowedNetwork, ...], BeforeValidator(_list)]
AllowedHosts = Annotated[tuple[Annotated[str, BeforeValidator(_host)], ...], BeforeValidator(_list)]
Port = Annotated[int, Field(ge=1, le=0xFFFF)]
Accent = Annotated[AccentPair, BeforeValidator(_accent)]
DashboardName = Annotated[str, BeforeValidator(_dashboard_name)]
Origins = Annotated[tuple[Annotated[str, BeforeValidator(_origin)], ...], BeforeValidator(_list)]
ReturnUrl = Annotated[str, BeforeValidator(_return_url)]
Ports = Annotated[tuple[Port, ...], BeforeValidator(_nonempty_list)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
PublicSealKeys = Annotated[tuple[Annotated[str, BeforeValidator(_public_seal_key)], ...], BeforeValidator(_list)]
ProxyUrl = Annotated[Secret, _secret(_url("http", "https"))]
CollectorUrl = Annotated[str, BeforeValidator(_collector_url)]
PublicUrl = Annotated[str, BeforeValidator(_public_url)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
SourceUser = Annotated[str, BeforeValidator(_text)]
TenantName = Annotated[str, BeforeValidator(_tenant)]
SecretText = Annotated[Secret, _secret(_secret_line)]
Topics = Annotated[tuple[Annotated[str, BeforeValidator(_topic)], ...], _required_list("orders")]


class Section(BaseModel):
    """What every section is: no key is unknown, and no error repeats a value, which may be a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)
