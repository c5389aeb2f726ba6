"""What a request says beside its body: the tenant in its path, its query, the version that it insists on."""

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

# Of a query of thousands of parameters, how many are looked at.
MAX_QUERY_NAMES = 20

# What is judged by one of these must not be told otherwise by another: a proxy may look at the last one.
_GIVEN_ONCE = ("Authorization", "Host", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Content-Type",
               "If-Match", "Idempotency-Key")  # fmt: skip

# A proxy that compresses makes a tag weak; quotes are easily lost in a shell.
_VERSION = re.compile(r'(?:W/)?(?P<quote>"?)(?P<version>[0-9]{1,9})(?P=quote)')


def check_headers(request: web.Request) -> None:
    """Raises Problem for a header that is given more than once, of those that mean something here."""
    for name in _GIVEN_ONCE:
        if len(request.headers.getall(name, ())) > 1:
            raise Problem(400, f"the header {name} is given more than once: send one value")


def check_tenant(request: web.Request) -> None:
    """Raises Invalid for a tenant in the path that cannot exist, which is a mistake to tell and not an empty list."""
    if problems := _wrong_tenant(request):
        raise Invalid(tuple(problems))


def check_parameters(request: web.Request, query: Sequence[Query]) -> None:
    """Raises Invalid with all that is wrong with path and query: a tenant that cannot exist, and parameters that are
    not known, are given twice, or have values that cannot be.
    """
    problems = _wrong_tenant(request)
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


def _wrong_tenant(request: web.Request) -> list[FieldProblem]:
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
    judge = known[name].problem
    return _by_schema(known[name].schema, values[0]) if judge is None else judge(values[0])


def _by_schema(schema: Mapping[str, object], text: str) -> str | None:
    """What is wrong with a value by the part of JSON Schema that our parameters use."""
    match schema:
        case {"enum": [*choices]} if text not in choices:
            named = [str(choice) for choice in choices]
            return f"must be {' or '.join(named)}" if len(named) < 3 else f"must be one of {', '.join(named)}"
        case {"type": "integer", "minimum": int(least), "maximum": int(most)}:
            is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
            return None if is_number and least <= int(text) <= most else f"must be a number from {least} to {most}"
        case {"format": "date-time"}:
            return _moment_problem(text)
        case _:
            return None


def if_match(request: web.Request) -> int | None:
    """The version that If-Match insists on. `*` asks only that the route exists, which every command does."""
    value = request.headers.get("If-Match", "*").strip()
    if value == "*":
        return None
    found = _VERSION.fullmatch(value)
    if found is None:
        raise Problem(400, 'If-Match must be one version in quotes, like "3"')
    return int(found["version"])


def moment_of(query: Mapping[str, str], name: str) -> datetime | None:
    """A time in a query that was judged before; None if it has none."""
    text = query.get(name)
    return None if text is None else _moment(text)


def _moment_problem(text: str) -> str | None:
    try:
        _moment(text)
    except ValueError as error:
        return str(error)
    return None


def _moment(text: str) -> datetime:
    return instant(text.replace(" ", "+"))  # a + that was not encoded
