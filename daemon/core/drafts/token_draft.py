"""The draft of a new token and its validation, shared by the API and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from daemon.core import durations, texts
from daemon.core.drafts.scope import Scope, ScopeProblem, parse
from daemon.core.events.event import FieldProblem, instant, tenant_problem

MAX_NAME_CHARACTERS = 200

_EXPIRY = "must be a time like 2027-01-31T08:00:00Z, a date, or a span like 30d"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDraft:
    """A token to create. `expires_at` is None if it is valid until it is revoked."""

    scope: Scope
    name: str
    expires_at: datetime | None


def check(
    *, scope: str, tenant: str | None, name: str, expires: str | None, now: datetime
) -> TokenDraft | tuple[FieldProblem, ...]:
    """The draft, or all its problems."""
    problems: list[FieldProblem] = []
    found: Scope | None = None
    try:
        found = parse(scope, tenant)
    except ScopeProblem as error:
        problems.append(FieldProblem(field=error.field, message=str(error)))
        message = None if tenant is None or error.field == "tenant" else tenant_problem(tenant)
        if message is not None:
            problems.append(FieldProblem(field="tenant", message=message))
    expires_at = None
    try:
        expires_at = None if expires is None else expiry(expires, now)
    except ValueError as error:
        problems.append(FieldProblem(field="expires", message=str(error)))
    if len(name) > MAX_NAME_CHARACTERS:
        message = f"has {len(name)} characters, {MAX_NAME_CHARACTERS} are allowed"
        problems.append(FieldProblem(field="name", message=message))
    elif (message := texts.problem(name)) is not None:
        problems.append(FieldProblem(field="name", message=message))
    if found is None or problems:
        return tuple(problems)
    return TokenDraft(scope=found, name=name, expires_at=expires_at)


def expiry(text: str, now: datetime) -> datetime:
    """The expiry of a time, a date (midnight UTC) or a duration from `now`. Raises ValueError with a sentence."""
    try:
        if text.endswith(tuple("smhdw")):
            at = now + durations.parse(text)
        else:
            at = instant(f"{text}T00:00:00Z" if "T" not in text.upper() else text)
    except (ValueError, OverflowError):
        raise ValueError(_EXPIRY) from None
    if at <= now:
        raise ValueError("is over already")
    return at
