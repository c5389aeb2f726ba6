"""The draft of a route as a merchant submits it, and its validation.

All problems are reported at once. A valid draft is put into canonical form, and only that form enters the route log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from daemon.core import texts
from daemon.core.drafts.route_headers import check_headers
from daemon.core.drafts.verification_key import key_problem
from daemon.core.events.catalogue import KnownTypes
from daemon.core.events.event import FieldProblem, pattern_problem, tenant_problem
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import expression
from daemon.core.webhook.egress import EgressPolicy, UrlRefused, check_url

MAX_NAME_CHARACTERS = 128
MAX_EVENT_TYPES = 200
MAX_SNAPSHOT_NAMES = 1000
MAX_RATE_PER_SECOND = 10_000

# Forms, where types are ticked, say it in other words.
NO_EVENT_TYPES = FieldProblem(
    field="event_types", message="is empty: name at least one type, a group like order.*, or * for all"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDraft:
    """A route as submitted, header values included. `verification_key` is None for a new random one."""

    name: str
    target_url: str
    event_types: tuple[str, ...]
    payload: PayloadOptions = field(default_factory=PayloadOptions)
    headers: Mapping[str, str] = field(default_factory=dict)
    ordered: bool = False
    rate_limit_per_second: float | None = None
    enabled: bool = True
    verification_key: str | None = field(default=None, repr=False)


def check(
    draft: RouteDraft,
    *,
    tenant: str,
    policy: EgressPolicy,
    signing_header: str,
    known_types: KnownTypes | None = None,
    kept_target: str | None = None,
) -> tuple[FieldProblem, ...]:
    """All problems of a draft, empty if it is valid. Fields are named as in the API.

    `known_types` is given if only types of the catalogue are allowed; groups and * are always allowed. `kept_target` is
    the target that the route has already: it was judged when it was chosen, and is judged again before each request.
    """
    found: list[tuple[str, str | None]] = [
        ("tenant", tenant_problem(tenant)),
        ("name", _name_problem(draft.name)),
        ("target_url", None if draft.target_url == kept_target else _url_problem(draft.target_url, policy)),
        ("rate_limit_per_second", _rate_problem(draft.rate_limit_per_second)),
    ]
    if not draft.event_types:
        found.append((NO_EVENT_TYPES.field, NO_EVENT_TYPES.message))
    if len(draft.event_types) > MAX_EVENT_TYPES:
        message = f"has {len(draft.event_types)} entries, {MAX_EVENT_TYPES} are allowed: use groups or *"
        found.append(("event_types", message))
    found += [("event_types", _pattern_problem(each, known_types)) for each in draft.event_types[:MAX_EVENT_TYPES]]
    found.append(("payload.snapshot", _snapshot_problem(draft.payload)))
    for name, text in (("filter", draft.payload.filter), ("transform", draft.payload.transform)):
        if text is not None:
            found.append((f"payload.{name}", expression.problem(text)))
    if draft.verification_key is not None:
        found.append(("verification_key", key_problem(draft.verification_key)))
    for problem in check_headers(draft.headers, signing_header=signing_header):
        field = "headers" if problem.name is None else f"headers.{problem.name}"
        found.append((field, problem.message))
    return tuple(FieldProblem(field=name, message=message) for name, message in found if message is not None)


def canonical(draft: RouteDraft, policy: EgressPolicy, *, kept_target: str | None = None) -> RouteDraft:
    """A draft that passed `check`, with the URL in canonical form and each event type once."""
    is_kept = draft.target_url == kept_target
    return replace(
        draft,
        target_url=draft.target_url if is_kept else check_url(draft.target_url, policy).url,
        event_types=tuple(dict.fromkeys(draft.event_types)),
    )


def _name_problem(name: str) -> str | None:
    if texts.is_blank(name):
        return "is empty: give the webhook a name you will recognise"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has {len(name)} characters, {MAX_NAME_CHARACTERS} are allowed"
    return texts.problem(name)


def _pattern_problem(pattern: str, known_types: KnownTypes | None) -> str | None:
    problem = pattern_problem(pattern)
    if problem is not None or known_types is None or pattern.endswith("*"):
        return problem
    return known_types.problem(pattern)


def _url_problem(url: str, policy: EgressPolicy) -> str | None:
    try:
        check_url(url, policy)
    except UrlRefused as error:
        return str(error)
    return None


def _snapshot_problem(options: PayloadOptions) -> str | None:
    names = [name for entity, fields in options.snapshot or () for name in (entity, *(fields or ()))]
    if len(names) > MAX_SNAPSHOT_NAMES:
        return f"names {len(names)} entities and fields, {MAX_SNAPSHOT_NAMES} are allowed: choose entities as a whole"
    if any(len(name) > MAX_NAME_CHARACTERS for name in names):
        return f"names must have at most {MAX_NAME_CHARACTERS} characters"
    return next((problem for problem in map(texts.problem, names) if problem is not None), None)


def _rate_problem(rate: float | None) -> str | None:
    if rate is None or 0 < rate <= MAX_RATE_PER_SECOND:
        return None
    return f"must be above 0 and at most {MAX_RATE_PER_SECOND}, or empty (null) for no limit"
