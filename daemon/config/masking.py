"""The configuration as it may be shown: values as JSON has them, secrets masked."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from daemon.config.sections import SECTIONS, Config
from daemon.config.values import MASK, ListenAddress, Secret


def masked(config: Config) -> dict[str, dict[str, object]]:
    """For `config show`: every key of every section."""
    found: dict[str, dict[str, object]] = {
        name: {key: shown(getattr(getattr(config, name), key)) for key in section.model_fields}
        for name, section in SECTIONS.items()
    }
    for section, key, url in (("database", "url", config.database.url), ("egress", "proxy", config.egress.proxy)):
        if url is not None:  # where it leads is what a person looks for
            found[section][key] = _masked_url(url.reveal())
    return found


def shown(value: object) -> object:
    match value:
        case Secret():
            return MASK
        case tuple():
            return [shown(item) for item in value]
        case timedelta():
            return f"{value.total_seconds():g}s"
        case ListenAddress() | Path() | IPv4Network() | IPv6Network():
            return str(value)
        case _:
            return value


def _masked_url(url: str) -> str:
    """A database or proxy URL without its passwords, also those given as parameters."""
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    query = [(key, MASK if "password" in key.lower() else value) for key, value in parse_qsl(parts.query)]
    return urlunsplit(
        parts._replace(
            netloc=f"{user}:{MASK}@{place}" if colon else login + at + place,
            query=urlencode(query, safe="*/:"),
        )
    )
