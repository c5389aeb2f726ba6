"""The configuration for display: values as JSON types, secrets masked."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlunsplit

from daemon.config import event_sources
from daemon.config.accents import AccentPair
from daemon.config.sections import SECTIONS, Config
from daemon.config.values import MASK, ListenAddress, Secret
from eventstore.postgres.servers import database_url


def masked(config: Config) -> dict[str, dict[str, object]]:
    """Every key of every section, for `config show`."""
    found: dict[str, dict[str, object]] = {
        name: {key: shown(getattr(getattr(config, name), key)) for key in section.model_fields}
        for name, section in SECTIONS.items()
    }
    for section, key, url in (("database", "url", config.database.url), ("egress", "proxy", config.egress.proxy)):
        if url is not None:  # host and database are of interest, only the password is secret
            found[section][key] = _masked_url(url.reveal())
    for name, source in config.sources.items():
        found[event_sources.PREFIX + name] = {
            key: shown(getattr(source, key)) for key in event_sources.SourceSection.model_fields
        }
    return found


def shown(value: object) -> object:
    match value:
        case Secret():
            return MASK
        case tuple():
            return [shown(item) for item in value]
        case AccentPair():
            return [value.light, value.dark]
        case timedelta():
            return f"{value.total_seconds():g}s"
        case ListenAddress() | Path() | IPv4Network() | IPv6Network():
            return str(value)
        case _:
            return value


def _masked_url(url: str) -> str:
    """A database or proxy URL with its passwords masked, including those in the query."""
    parts = database_url.split(url)
    login, at, address = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    query = [(key, MASK if "password" in key.lower() else value) for key, value in parse_qsl(parts.query)]
    return urlunsplit(
        parts._replace(
            netloc=f"{user}:{MASK}@{address}" if colon else login + at + address,
            query=urlencode(query, safe="*/:"),
        )
    )
