"""Builds a Config from file, environment and command line, or reports every problem in them.

The one thing to know: checking does not stop at the first problem. An invalid section is None, and the checks that span
several keys run on the valid sections.
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from daemon.config import event_sources, logos
from daemon.config.event_sources import SourceSection
from daemon.config.given import GivenValue, GivenValues, default_data_dir, did_you_mean, read_environment, read_file
from daemon.config.masking import shown
from daemon.config.sections import (
    SECTIONS,
    Config,
    DashboardSection,
    DeliverySection,
    EgressSection,
    RetentionSection,
    SealSection,
    ServerSection,
    TracingSection,
    is_secret,
    model_of,
)
from daemon.config.values import Section
from daemon.core.drafts.login_link_draft import is_loopback

# Of 32 hexadecimal digits, 128 bits: it cannot be guessed over a network. Beyond loopback anybody may try.
MIN_ADMIN_TOKEN_CHARACTERS = 32


class ConfigError(Exception):
    """The configuration cannot be used (exit 78). Each problem is one line: where, what is wrong, what to do."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    dev: bool = False,
    listen: str | None = None,
    for_daemon: bool = False,
    is_again: bool = False,
) -> Config:
    """The configuration from file, environment and command line; each overrides the one before. `for_daemon` checks
    also whether this user may write what a daemon writes. Other commands may be run by another user than the daemon's.
    `is_again` if this process has read it before.

    Raises ConfigError with every problem of all three.
    """
    problems: list[str] = []
    given = GivenValues()
    if path is not None:
        read_file(path, given, problems, is_again=is_again)
    read_environment(environ, given, problems, is_again=is_again)
    if listen is not None:
        given["server", "listen"] = GivenValue(listen, "--listen")
    default_data_dir(environ, given, problems)
    sections = {name: _check_section(name, given, problems) for name in SECTIONS}
    problems += _check_together(sections, given, is_dev=dev)
    if for_daemon and isinstance(seal := sections["seal"], SealSection) and seal.anchor_file is not None:
        problems += _check_anchor_file(seal.anchor_file, given.where("seal", "anchor_file"))
    found = {name: _check_section(event_sources.PREFIX + name, given, problems) for name in _source_names(given)}
    sources = {name: section for name, section in found.items() if isinstance(section, SourceSection)}
    problems += _check_sources(sources, given)
    if problems:
        raise ConfigError(tuple(problems))
    return Config.model_validate({**sections, "sources": sources, "dev": dev})


def _check_section(name: str, given: GivenValues, problems: list[str]) -> Section | None:
    values = {key: given[section, key].value for section, key in given if section == name}
    try:
        return model_of(name).model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key = str(detail["loc"][0])
            is_missing = detail["type"] == "missing"
            cause = f"is missing; set it in [{name}]" if is_missing else _cause(name, key, detail)
            problems.append(f"{given.where(name, key)}: {cause}")
        return None


def _cause(section: str, key: str, detail: ErrorDetails) -> str:
    """The error of pydantic in our words. The value is quoted only if it is no secret."""
    hidden = is_secret(section, key)
    quoted = "" if hidden else f"{detail['input']!r} "
    field = model_of(section).model_fields[key]
    has_default = not (hidden or field.default is None or field.is_required())
    default = f"; the default is {shown(field.default)}" if has_default else ""
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"])
        case "enum":
            choices = [part.strip(" '") for part in re.split(r",| or ", detail["ctx"]["expected"])]
            return (
                f"{quoted}is not one of {', '.join(choices)}{did_you_mean(str(detail['input']), choices, otherwise='')}"
            )
        case "bool_parsing" | "bool_type":
            return f"{quoted}must be true or false{default}"
        case "int_parsing" | "int_type" | "int_from_float":
            return f"{quoted}must be a whole number{default}"
        case "float_parsing" | "float_type":
            return f"{quoted}must be a number{default}"
        case _:
            return f"{quoted}{detail['msg'].replace('Input should be', 'must be')}{default}"


def _check_together(sections: Mapping[str, Section | None], given: GivenValues, *, is_dev: bool) -> Iterator[str]:
    for section in sections.values():
        match section:
            case ServerSection():
                yield from _check_exposure(section, given, is_dev=is_dev)
            case DeliverySection():
                kept = sections["retention"]
                yield from _check_delivery(section, kept if isinstance(kept, RetentionSection) else None, given)
            case DashboardSection():
                found = sections["server"]
                yield from _check_dashboard(section, found if isinstance(found, ServerSection) else None, given)
            case TracingSection(endpoint=str()) if not _has_opentelemetry():
                yield (
                    f"{given.where('tracing', 'endpoint')}: OpenTelemetry is not installed; "
                    "pip install 'hookledger[otel]', or leave the endpoint out"
                )
            case EgressSection(extra_ca_file=Path() as file) if not file.is_file():
                yield f"{given.where('egress', 'extra_ca_file')}: no file {file}; name a PEM file"
            case EgressSection(extra_ca_file=Path() as file) if not _has_certificate(file):
                yield f"{given.where('egress', 'extra_ca_file')}: no certificate in {file}; name a PEM file"


def _has_certificate(file: Path) -> bool:
    import ssl  # noqa: PLC0415 - few configurations name a file, and each command loads one

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except OSError:  # ssl.SSLError is one, and so is a file that this user may not read
        return False
    return True


def _check_anchor_file(file: Path, where: str) -> Iterator[str]:
    """A file that is there is appended to; one that is not is made in its folder."""
    try:
        is_there, is_folder, has_folder = file.exists(), file.is_dir(), file.parent.is_dir()
    except OSError as error:
        yield f"{where}: {file}: {error.strerror}; name a file that this user may write"
        return
    if is_folder:
        yield f"{where}: {file} is a folder; name a file in it"
    elif is_there:
        if not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
            yield f"{where}: this user may not read and write {file}; give it to the user of the daemon"
    elif not has_folder:
        yield f"{where}: no folder {file.parent}; make it, or name a file elsewhere"
    elif not os.access(file.parent, os.W_OK | os.X_OK, effective_ids=True):
        yield f"{where}: this user may not write to {file.parent}; give it to the user of the daemon"


def _source_names(given: GivenValues) -> list[str]:
    """The sources of events that anything is said of."""
    sections = dict.fromkeys(section for section, _ in given)
    return [
        section.removeprefix(event_sources.PREFIX) for section in sections if section.startswith(event_sources.PREFIX)
    ]


def _check_sources(sources: Mapping[str, SourceSection], given: GivenValues) -> Iterator[str]:
    for name, section in sources.items():
        for key, message in event_sources.problems_within(section):
            yield f"{given.where(event_sources.PREFIX + name, key)}: {message}"
    for name, message in event_sources.problems_between(sources):
        yield f"{given.where(event_sources.PREFIX + name, 'group')}: {message}"


def _has_opentelemetry() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _check_exposure(server: ServerSection, given: GivenValues, *, is_dev: bool) -> Iterator[str]:
    listens = (("listen", server.listen), ("ops_listen", server.ops_listen))
    exposed = [(key, address) for key, address in listens if address is not None and not address.is_loopback]
    for key, address in exposed:
        if is_dev:
            yield f"{given.where('server', key)}: --dev is for loopback only, not {address}; drop one of them"
        elif server.admin_token is None:
            yield (
                f"{given.where('server', key)}: {address} is reachable by others, and there is no admin token; "
                "set HOOKLEDGER_SERVER__ADMIN_TOKEN, or listen on 127.0.0.1"
            )
    if server.ops_listen is not None and server.ops_listen.port and server.ops_listen == server.listen:
        yield (
            f"{given.where('server', 'ops_listen')}: {server.ops_listen} is server.listen, too; "
            "leave it out to have all on one address"
        )
    token = server.admin_token
    if server.trusted_proxies and token is None:
        yield (
            f"{given.where('server', 'trusted_proxies')}: a proxy makes the daemon reachable by others, and there is "
            "no admin token; set HOOKLEDGER_SERVER__ADMIN_TOKEN"
        )
    if exposed and not is_dev and token is not None and len(token.reveal()) < MIN_ADMIN_TOKEN_CHARACTERS:
        yield (
            f"{given.where('server', 'admin_token')}: it must have at least {MIN_ADMIN_TOKEN_CHARACTERS} characters, "
            f"since {exposed[0][1]} is reachable by others; make one with: openssl rand -hex 32"
        )


def _check_dashboard(dashboard: DashboardSection, server: ServerSection | None, given: GivenValues) -> Iterator[str]:
    if dashboard.logo_file is not None:
        try:
            logos.read(dashboard.logo_file)
        except ValueError as error:
            yield f"{given.where('dashboard', 'logo_file')}: {error}"
    if dashboard.frame_ancestors and server is not None and not _keeps_cookies_in_frames(server):
        yield (
            f"{given.where('dashboard', 'frame_ancestors')}: in a frame browsers keep a session over https only; "
            "set server.public_url to an address that begins with https://, or listen on loopback"
        )


def _keeps_cookies_in_frames(server: ServerSection) -> bool:
    """True if browsers take cookies marked as secure from this address: over https, and from loopback."""
    url = urlsplit(server.url())
    return url.scheme == "https" or is_loopback(url.hostname or "")


def _check_delivery(delivery: DeliverySection, kept: RetentionSection | None, given: GivenValues) -> Iterator[str]:
    if delivery.retry_cap_seconds < delivery.retry_first_seconds:
        yield (
            f"{given.where('delivery', 'retry_cap_seconds')}: the cap of {delivery.retry_cap_seconds:g} s is below "
            f"delivery.retry_first_seconds, {delivery.retry_first_seconds:g} s; raise the one or lower the other"
        )
    if delivery.route_concurrency > delivery.concurrency:
        yield (
            f"{given.where('delivery', 'route_concurrency')}: one route may not have {delivery.route_concurrency} "
            f"requests where all have {delivery.concurrency}; lower it or raise delivery.concurrency"
        )
    after = delivery.auto_disable_after
    if kept is not None and after is not None and after > timedelta(days=kept.attempts_days):
        yield (
            f"{given.where('delivery', 'auto_disable_after')}: failures are kept for {kept.attempts_days} days "
            "(retention.attempts_days), so none could be seen to last for longer; lower it or raise that"
        )
