"""Which targets webhooks may be sent to: the rules for a target's URL and for the IP addresses of its host.

Pure. A URL is checked as text before any parser sees it, because parsers disagree and repair: one strips line feeds,
another reads `127。0。0。1` as 127.0.0.1. The one thing to know: `check_url` gives early, good errors. The network is
protected by `address_denied`, which daemon.pipeline.http_client.egress_guard calls for every address right before it
connects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Self
from urllib.parse import quote

from daemon.core.webhook import host_names
from daemon.core.webhook.addresses import NAT64, Address, DenyReason, Network, ipv4_inside, reserved_as

MAX_URL_BYTES = 2048


class UrlRefused(ValueError):
    """A target that must be neither registered nor sent to; the text is one sentence with cause and next step."""

    def __init__(self, reason: DenyReason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """The operator's rules. `deny_nets` beats `allow_nets`, which beats the built-in list; `ports` None is any port.

    `allow_hosts` are names, and suffixes as `*.suffix`, that may be names of a private network and lead into one.
    """

    allow_http: bool = False
    ports: frozenset[int] | None = frozenset({443, 8443})
    allow_nets: tuple[Network, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    deny_nets: tuple[Network, ...] = ()

    @classmethod
    def dev(cls) -> Self:
        """The policy of --dev: loopback targets are allowed, and http, on any port."""
        loopback: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
        return cls(allow_http=True, ports=None, allow_nets=loopback)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTarget:
    """A URL that passed `check_url`, in canonical form: ASCII, A-label host in lower case. `host` has no brackets."""

    url: str
    scheme: str
    host: str
    port: int


_DEFAULT_PORTS = {"https": 443, "http": 80}
_URL = re.compile(r"(?i:(https?)://)([^/?]*)(.*)", re.DOTALL)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\\u2028\u2029\ud800-\udfff]")
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PATH_SAFE = "!$%&'()*+,-./:;=?@[]_~|"
"""Not percent-encoded in path and query: `%` as the text is encoded already, `[]|` as receivers expect them raw."""


def check_url(raw: str, policy: EgressPolicy) -> CheckedTarget:
    """The target of the URL `raw`. An IP address as host is checked; a name is not resolved. Raises UrlRefused."""
    _check_length(raw)
    if found := _FORBIDDEN.search(raw):
        raise UrlRefused(
            DenyReason.URL_CHARACTER,
            f"The URL contains {found[0]!a}, which URLs must not; percent-encode it in path or query, or remove it.",
        )
    scheme, authority, rest = _split(raw, policy)
    host, port = _split_authority(authority, scheme)
    if policy.ports is not None and port not in policy.ports:
        allowed = ", ".join(map(str, sorted(policy.ports))) or "none"
        raise UrlRefused(
            DenyReason.PORT, f"Port {port} is not allowed here ({allowed}); use one of these or ask for egress.ports."
        )
    host = _canonical_host(host, policy)
    bracketed = f"[{host}]" if ":" in host else host
    suffix = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    path = rest if rest.startswith("/") else f"/{rest}"
    url = f"{scheme}://{bracketed}{suffix}{quote(path, safe=_PATH_SAFE)}"
    _check_length(url)  # percent-encoding made it longer, and every attempt checks the URL again
    return CheckedTarget(url=url, scheme=scheme, host=host, port=port)


def allows_private_addresses(host: str, policy: EgressPolicy) -> bool:
    """True if the operator has listed the name `host`: then it may lead to private addresses."""
    return host_names.is_listed(host.lower().removesuffix("."), policy.allow_hosts)


def address_denied(address: str | Address, policy: EgressPolicy, *, is_host_listed: bool = False) -> DenyReason | None:
    """Why connecting to `address` is denied, or None. An IPv6 form of an IPv4 address obeys the IPv4 rules as well.

    `is_host_listed`: the address was found for a host of `allow_hosts`. That admits private addresses, but not those of
    cloud platforms' services, nor loopback, which are another machine's name for this one.
    """
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return DenyReason.NOT_AN_ADDRESS
    inner = ipv4_inside(address)
    if _listed(address, policy.deny_nets) or (inner is not None and _listed(inner, policy.deny_nets)):
        return DenyReason.DENY_NETS
    if inner is not None and not _listed(inner, policy.allow_nets) and (reason := reserved_as(inner)):
        return reason
    if address in NAT64 or _listed(address, policy.allow_nets):
        return None
    reason = reserved_as(address)
    return None if is_host_listed and reason is DenyReason.PRIVATE else reason


def mask_query(url: str) -> str:
    """`url` for pages and logs: query values, fragments and user information become `***`. Takes any text."""
    masked, mark, _ = url.partition("#")
    masked, question, query = masked.partition("?")
    before, slashes, after = masked.partition("//")
    authority, slash, path = after.partition("/")
    if "@" in authority:
        masked = f"{before}{slashes}***@{authority.rpartition('@')[2]}{slash}{path}"
    if query:
        masked += question + "&".join(_masked_pair(pair) for pair in query.split("&"))
    return f"{masked}#***" if mark else masked


def _masked_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}=***" if equals else "***"


def _check_length(url: str) -> None:
    if len(url) > MAX_URL_BYTES or len(url.encode("utf-8", "surrogatepass")) > MAX_URL_BYTES:
        raise UrlRefused(
            DenyReason.URL_LENGTH,
            f"The URL is longer than {MAX_URL_BYTES:,} bytes, percent-encoded; shorten its path or query.",
        )


def _split(raw: str, policy: EgressPolicy) -> tuple[str, str, str]:
    found = _URL.fullmatch(raw)
    scheme = found[1].lower() if found else ""
    if not found or (scheme == "http" and not policy.allow_http):
        schemes = "https:// or http://" if policy.allow_http else "https://"
        raise UrlRefused(DenyReason.SCHEME, f"The URL does not begin with {schemes}; webhooks go nowhere else.")
    if "#" in raw:
        raise UrlRefused(
            DenyReason.FRAGMENT, "The URL has a fragment, which is never sent; remove '#' and all after it."
        )
    if "@" in found[2]:
        raise UrlRefused(
            DenyReason.USERINFO, "The URL carries a user name before '@'; remove it and use a custom header instead."
        )
    return scheme, found[2], found[3]


def _split_authority(authority: str, scheme: str) -> tuple[str, int]:
    host, colon, port = authority, "", ""
    if not authority.endswith("]"):
        host, colon, port = authority.rpartition(":")
        if not colon:
            host = authority
    if not colon:
        return host, _DEFAULT_PORTS[scheme]
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise UrlRefused(
            DenyReason.PORT, "The port after ':' is not a number from 1 to 65535; correct it or leave it out."
        )
    return host, int(port)


def _canonical_host(host: str, policy: EgressPolicy) -> str:
    """The host in lower case, names as A-labels without a trailing dot, addresses in their shortest spelling."""
    if host.startswith("["):
        return _literal(_ipv6(host), policy)
    try:
        labels = host_names.a_labels(host)
    except host_names.NameProblem as error:
        raise UrlRefused(DenyReason.HOST, str(error)) from None
    name = ".".join(labels)
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return _literal(_ipv4(host), policy)
    _check_name(name, policy)
    return name


def _check_name(name: str, policy: EgressPolicy) -> None:
    """Refuses what is certain without DNS. Where addresses of private networks are allowed, these decide later."""
    if host_names.is_listed(name, policy.allow_hosts):
        return
    is_loopback = name.rpartition(".")[2] == "localhost"
    if reason := host_names.nowhere_because(name):
        raise UrlRefused(DenyReason.LOCAL_NAME, f"The host leads nowhere: {reason}; use a name in public DNS.")
    if any(net.is_loopback == is_loopback for net in policy.allow_nets):
        return
    if reason := host_names.local_because(name):
        raise UrlRefused(
            DenyReason.LOCAL_NAME,
            f"The host is a name of a local network: {reason}; use a name in public DNS or ask for egress.allow_hosts "
            "or egress.allow_nets.",
        )


def _ipv4(host: str) -> IPv4Address:
    try:
        return IPv4Address(host)
    except ValueError:
        raise UrlRefused(
            DenyReason.NUMERIC_HOST, "The host is a number, but not an IPv4 address like 192.0.2.1; use a name."
        ) from None


def _ipv6(host: str) -> IPv6Address:
    try:
        address = IPv6Address(host[1:-1]) if host.endswith("]") else None
    except ValueError:
        address = None
    if "%" in host:
        raise UrlRefused(
            DenyReason.HOST,
            "The host's address has a zone after '%', which means something on one machine; use a name.",
        )
    if address is None:
        raise UrlRefused(DenyReason.HOST, "The host in brackets is not an IPv6 address; correct it or use a name.")
    return address


def _literal(address: Address, policy: EgressPolicy) -> str:
    if reason := address_denied(address, policy):
        raise UrlRefused(
            reason, f"The host's address is not allowed ({reason}); use a public one or ask for egress.allow_nets."
        )
    return str(address)


def _listed(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
