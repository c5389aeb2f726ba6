"""The draft of a login link and its validation, shared by the API, the command line and the configuration.

The one thing to know: a link leads to pages of its own tenant, and back to addresses that a browser opens safely. So a
path may not climb out of the tenant's pages, and a return URL has the scheme https, or http on loopback.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import quote, unquote, urlsplit

from daemon.core import texts
from daemon.core.events.event import FieldProblem

MAX_ACTOR_CHARACTERS = 128
MAX_URL_CHARACTERS = 2048
DEFAULT_SECONDS = 60
MAX_SECONDS = 3600

# Whom the route log names for what nobody in a dashboard did.
_OWN_ACTORS = re.compile(r"(admin|dashboard|system)|(token|cli):.*", re.IGNORECASE | re.DOTALL)

# Printable ASCII without what browsers rewrite (a backslash becomes a slash) or that ends a path.
_PATH = re.compile(r"[!$&'()*+,\-./0-9:;=@A-Z_a-z~%]+(\?[!$&'()*+,\-./0-9:;=@A-Z_a-z~%?]*)?")
_URL = re.compile(r"[!-~]+")


class DashboardRole(StrEnum):
    """What a session may do: manage its tenant's webhooks, or see everything but keys and change nothing."""

    MANAGE = "manage"
    VIEW = "view"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginLinkDraft:
    """A link to make. `actor` is None for the dashboard itself; `return_url` is None for that of the configuration, and
    `path`, which begins with /t/, is None for the first page.
    """

    actor: str | None = None
    role: DashboardRole = DashboardRole.MANAGE
    life: timedelta = timedelta(seconds=DEFAULT_SECONDS)
    return_url: str | None = None
    path: str | None = None


def check(
    tenant: str | None,
    *,
    actor: str | None,
    role: str = DashboardRole.MANAGE,
    valid_seconds: int = DEFAULT_SECONDS,
    return_url: str | None = None,
    path: str | None = None,
) -> LoginLinkDraft | tuple[FieldProblem, ...]:
    """The draft of a link for that tenant, None for operators; or all its problems."""
    found = {
        "actor": None if actor is None else _actor_problem(actor),
        "role": None if role in list(DashboardRole) else f"must be {' or '.join(DashboardRole)}",
        "valid_seconds": None if 1 <= valid_seconds <= MAX_SECONDS else f"must be 1 to {MAX_SECONDS}",
        "return_url": None if return_url is None else return_url_problem(return_url),
        "path": None if path is None else _path_problem(tenant, path),
    }
    problems = [FieldProblem(field=name, message=message) for name, message in found.items() if message is not None]
    if problems:
        return tuple(problems)
    return LoginLinkDraft(
        actor=actor,
        role=DashboardRole(role),
        life=timedelta(seconds=valid_seconds),
        return_url=return_url,
        path=None if path is None or tenant is None else _whole_path(tenant, path),
    )


def return_url_problem(url: str) -> str | None:
    """Why no page may lead back to a URL, None if one may."""
    if len(url) > MAX_URL_CHARACTERS:
        return f"has {len(url)} characters, {MAX_URL_CHARACTERS} are allowed"
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and (parts.port is None or parts.port > 0) and parts.username is None
    except ValueError:
        return "must be a URL like https://shop.example.com/settings"
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        return "must begin with https://; http:// is for loopback only"
    if parts.scheme not in ("https", "http"):
        return "must begin with https://"
    if not is_address or not _URL.fullmatch(url) or "\\" in url:
        return "must be a URL like https://shop.example.com/settings, without a user and with other characters encoded"
    return None


def is_loopback(host: str) -> bool:
    """True for a name or an address of this machine itself."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _actor_problem(actor: str) -> str | None:
    if texts.is_blank(actor):
        return "must not be empty: name the person or the system that comes in"
    if len(actor) > MAX_ACTOR_CHARACTERS:
        return f"has {len(actor)} characters, {MAX_ACTOR_CHARACTERS} are allowed"
    if _OWN_ACTORS.fullmatch(actor.strip()):
        return "is a name that Hookledger uses itself: choose another one, like jane@shop.example.com"
    return texts.problem(actor)


def _path_problem(tenant: str | None, path: str) -> str | None:
    example = "must be a page of this tenant, like /webhooks/new or /t/<tenant>/webhooks/new"
    if tenant is None:
        return "is for links of one tenant only"
    if len(path) > MAX_URL_CHARACTERS or not path.startswith("/") or not _PATH.fullmatch(path):
        return example
    segments = [unquote(each) for each in path.partition("?")[0].split("/")[1:]]
    if any(each in ("", ".", "..") or "/" in each or "\\" in each for each in segments):
        return example
    if segments[0] == "t" and (len(segments) < 3 or segments[1] != tenant):
        return example
    return None


def _whole_path(tenant: str, path: str) -> str:
    return path if path.startswith("/t/") else f"/t/{quote(tenant, safe='')}{path}"
