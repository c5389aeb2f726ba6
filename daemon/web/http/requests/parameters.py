"""What a request says outside its body: the tenant in its path, the query, the version in If-Match."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches

from aiohttp import web

from daemon.commands import Invalid
from daemon.core.events.event import FieldProblem, instant, tenant_problem
from daemon.web.http.endpoints import Query
from daemon.web.http.problems import Problem
from daemon.web.http.shapes import MOMENT_SCHEMA

# Only so many different names are checked, since a hostile query may have thousands.
MAX_QUERY_NAMES = 20

RECORDED_AT = Query(
    name="recorded_at",
    description="of several events with this id, which are days apart, the one that was recorded at this moment",
    schema=MOMENT_SCHEMA,
)

# Headers that decide something. Given twice, a proxy may have decided by the one value and we by the other.
_GIVEN_ONCE = ("Authorization", "Host", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Content-Type",
               "If-Match", "Idempotency-Key")  # fmt: skip

# A compressing proxy makes a tag weak (W/), and a shell easily loses the quotes.
_VERSION = re.compile(r'(?:W/)?(?P<quote>"?)(?P<version>[0-9]{1,9})(?P=quote)')


def check_headers(request: web.Request) -> None:
    """Raises Problem if a header that decides something is given more than once."""
    for name in _GIVEN_ONCE:
        if len(request.headers.getall(name, ())) > 1:
            raise Problem(400, f"the header {name} is given more than once: send one value")


def check_tenant(request: web.Request) -> None:
    """Raises Invalid for a tenant in the path that cannot exist: that is an error of the caller, not an empty list."""
    if problems := _tenant_problems(request):
        raise Invalid(tuple(problems))


def check_parameters(request: web.Request, query: Sequence[Query]) -> None:
    """Raises Invalid with everything that is wrong with path and query: a tenant that cannot exist, and parameters that
    are unknown, missing, repeated or have invalid values.
    """
    problems = _tenant_problems(request)
    known = {each.name: each for each in query}
    for name in list(dict.fromkeys(request.query))[:MAX_QUERY_NAMES]:
        message = _problem(known, name, request.query.getall(name))
        if message is not None:
            problems.append(FieldProblem(field=name, message=message))
    problems += [
        FieldProblem(field=each.name, message=f"is missing: give {each.description}")
        for each in query
        if each.is_required and each.name not in request.query
    ]
    if problems:
        raise Invalid(tuple(problems))


def if_match(request: web.Request) -> int | None:
    """The version that If-Match requires, None for any. `*` requires only that the route exists, like every command."""
    value = request.headers.get("If-Match", "*").strip()
    if value == "*":
        return None
    match = _VERSION.fullmatch(value)
    if match is None:
        raise Problem(400, 'If-Match must be one version in quotes, like "3"')
    return int(match["version"])


def moment_of(query: Mapping[str, str], name: str) -> datetime | None:
    """A time in a query that `check_parameters` has checked; None if it is not given."""
    text = query.get(name)
    return None if text is None else _moment(text)


def _tenant_problems(request: web.Request) -> list[FieldProblem]:
    tenant = request.match_info.get("tenant")
    message = None if tenant is None else tenant_problem(tenant)
    return [] if message is None else [FieldProblem(field="tenant", message=message)]


def _problem(known: Mapping[str, Query], name: str, values: Sequence[str]) -> str | None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}"
        return f"is not a query parameter of this path: {hint}"
    if len(values) > 1:
        return "is given more than once"
    check = known[name].problem
    return _schema_problem(known[name].schema, values[0]) if check is None else check(values[0])


def _schema_problem(schema: Mapping[str, object], text: str) -> str | None:
    """What a schema says against a value. Knows the part of JSON Schema that our parameters use."""
    match schema:
        case {"enum": [*choices]} if text not in choices:
            texts = [str(choice) for choice in choices]
            return f"must be {' or '.join(texts)}" if len(texts) < 3 else f"must be one of {', '.join(texts)}"
        case {"type": "integer", "minimum": int(least), "maximum": int(most)}:
            is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
            return None if is_number and least <= int(text) <= most else f"must be a number from {least} to {most}"
        case {"format": "date-time"}:
            return _moment_problem(text)
        case _:
            return None


def _moment_problem(text: str) -> str | None:
    try:
        _moment(text)
    except ValueError as error:
        return str(error)
    return None


def _moment(text: str) -> datetime:
    return instant(text.replace(" ", "+"))  # a + that was not encoded arrives as a space
