"""The URL of a database as libpq writes it, for a driver that knows a part of libpq's parameters.

A parameter that the driver takes is left to it. What the server knows becomes a setting of the session. What changes
nothing here - keep-alive packets, since every use has a deadline - is left out. Any other is refused by name: a promise
that is not kept is worse than none.

    postgresql://user:password@host:port,host:port/name?target_session_attrs=read-write&sslmode=verify-full
    postgresql://user@/name?host=host,host&port=port,port

Hosts may stand in the parameters, as directories of sockets mostly do, or in PGHOST. Each becomes a server here: the
driver would take the first one that answers, though it be a standby.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from eventstore.postgres.errors import MalformedUrl

# Taken by the driver.
_OF_DRIVER = {
    "host", "port", "dbname", "database", "user", "password", "passfile", "service", "servicefile", "sslmode",
    "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version",
    "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib",
}  # fmt: skip
# The values that these may have.
_VALUES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "primary", "read-write", "prefer-standby", "standby", "read-only"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
}
# These name files, and the last one is the password of one.
_OF_TLS = {"sslrootcert", "sslcrl", "sslcert", "sslkey", "sslpassword"}
# Parameters of libpq that change nothing here.
_HARMLESS = {
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "connect_timeout",
    "fallback_application_name", "load_balance_hosts", "sslsni", "sslcertmode", "sslcompression", "sslcrldir",
    "gssdelegation", "min_protocol_version", "max_protocol_version",
}  # fmt: skip
# Parameters of which some values ask for no more than the driver does.
_HARMLESS_VALUES = {
    "gssencmode": {"disable", "prefer"},
    "channel_binding": {"disable", "prefer"},
    "client_encoding": {"auto", "utf8", "utf-8", "unicode"},
    "requiressl": {"0"},
}
# Parameters of libpq that ask for what is not done here.
_REFUSED = {
    "channel_binding": "the driver cannot bind to the channel; sslmode=verify-full proves who the server is",
    "requiressl": "write sslmode=require instead",
    "gssencmode": "the driver has no GSS encryption; use sslmode",
    "require_auth": "remove it; the server decides how a user signs in",
    "requirepeer": "remove it; it is not checked",
    "client_encoding": "remove it; everything here is UTF-8",
    "replication": "remove it; this is no replica",
    "sslkeylogfile": "remove it",
    "scram_client_key": "remove it, and give the password",
    "scram_server_key": "remove it, and give the password",
    "oauth_issuer": "remove it, and give a password",
}
WRITE_URL = "write postgresql://user:password@host:port/name, special characters percent-encoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUrls:
    """`servers` are the URLs that the driver takes, one for each server in order; `settings` what sessions are told;
    `tls` the parameters that name files. With `is_verified` they have to prove who they are. `names_user` says that
    the role is named, or a service that may name it.
    """

    servers: tuple[str, ...]
    settings: dict[str, str]
    tls: dict[str, str]
    is_verified: bool
    names_user: bool


def parsed(url: str) -> ServerUrls:
    """Raises MalformedUrl, which quotes nothing but the name of a parameter."""
    parts = _with_hosts(_parts(url))
    kept: list[tuple[str, str]] = []
    settings: dict[str, str] = {}
    given = parse_qsl(parts.query, keep_blank_values=True)
    is_verified = dict(given).get("sslmode") in {"verify-ca", "verify-full"}
    for name, value in given:
        if name in _OF_DRIVER:
            _check_value(name, value)
            kept.append((name, value))
        elif name in _HARMLESS or value.lower() in _HARMLESS_VALUES.get(name, ()):
            pass
        elif name == "channel_binding" and is_verified:
            pass  # the certificate proves what the channel would
        elif name in _REFUSED:
            raise MalformedUrl(f"database.url has {name}, which Hookledger cannot do", hint=_REFUSED[name])
        else:
            settings[name] = value
    query = urlencode(kept, quote_via=quote)
    user, at, places = parts.netloc.rpartition("@")
    try:
        for place in places.split(","):
            _ = urlsplit(f"//{place}").port
    except ValueError:
        raise MalformedUrl("database.url is not understood", hint=WRITE_URL) from None
    servers = [urlunsplit(parts._replace(netloc=f"{user}{at}{place}", query=query)) for place in places.split(",")]
    tls = {name: value for name, value in kept if name in _OF_TLS}
    names_user = bool(user.partition(":")[0]) or not {"user", "service"}.isdisjoint(dict(kept))
    return ServerUrls(
        servers=tuple(servers), settings=settings, tls=tls, is_verified=is_verified, names_user=names_user
    )


def location(url: str) -> str:
    """Hosts, ports and database of a URL, for messages. User and password are never part of it."""
    try:
        parts = _with_hosts(_parts(url))
    except MalformedUrl:
        return "a malformed URL"
    places = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{place}")
            name = unquote(one.hostname or "/")
            name = "the local socket" if name.startswith(("/", "@")) else name
            places.append(name + (f":{one.port}" if one.port else ""))
        except ValueError:
            return "a malformed URL"
    return f"{', '.join(places)}{parts.path}"


def split(url: str) -> SplitResult:
    """The parts of a URL that may name several hosts. Raises ValueError.

    The hosts are kept apart from `urlsplit`, which knows one: some versions of it refuse an IPv6 address behind others.
    """
    scheme, separator, rest = url.partition("://")
    hosts = re.split("[/?#]", rest, maxsplit=1)[0]
    return urlsplit(f"{scheme}{separator}{rest[len(hosts) :]}")._replace(netloc=hosts)


def _with_hosts(parts: SplitResult) -> SplitResult:
    """The same with the hosts where one looks for them. Raises MalformedUrl if there are more or fewer ports."""
    user, at, places = parts.netloc.rpartition("@")
    given = parse_qsl(parts.query, keep_blank_values=True)
    names = dict(given)
    hosts, ports = names.get("host", ""), names.get("port", "")
    if not hosts and "service" not in names and "," in os.environ.get("PGHOST", ""):
        hosts, ports = os.environ["PGHOST"], ports or os.environ.get("PGPORT", "")
    if places or not hosts:
        return parts
    each_host, each_port = hosts.split(","), ports.split(",")
    if len(each_port) == 1:
        each_port *= len(each_host)
    if len(each_port) != len(each_host):
        raise MalformedUrl(
            f"database.url has {len(each_host)} hosts and {len(each_port)} ports", hint="name one port, or one for each"
        )
    netloc = ",".join(_place(host, port) for host, port in zip(each_host, each_port, strict=True))
    rest = [(name, value) for name, value in given if name not in {"host", "port"}]
    return parts._replace(netloc=f"{user}{at}{netloc}", query=urlencode(rest, quote_via=quote))


def _place(host: str, port: str) -> str:
    is_address = ":" in host and not host.startswith(("/", "["))
    return (f"[{host}]" if is_address else quote(host, safe="[]:")) + (f":{port}" if port else "")


def _check_value(name: str, value: str) -> None:
    allowed = _VALUES.get(name)
    if allowed is not None and value not in allowed:
        raise MalformedUrl(f"database.url has no such {name}", hint=f"write one of {', '.join(allowed)}")
    if (name, value) == ("sslrootcert", "system"):
        raise MalformedUrl(
            "database.url has sslrootcert=system, which the driver does not know",
            hint="name the file with the authorities of the system, such as /etc/ssl/certs/ca-certificates.crt",
        )


def _parts(url: str) -> SplitResult:
    """The parts of a URL of which no part of a password has become another part."""
    try:
        parts = split(url)
    except ValueError:
        raise MalformedUrl("database.url is not understood", hint=WRITE_URL) from None
    # A password with `/`, `?`, `#` or `@` in it ends the host too early.
    strays = parts.netloc.count("@") > 1, "@" in parts.path, "@" in parts.query, bool(parts.fragment)
    if parts.scheme not in {"postgresql", "postgres"} or any(strays):
        raise MalformedUrl("database.url is not understood", hint=WRITE_URL)
    return parts
