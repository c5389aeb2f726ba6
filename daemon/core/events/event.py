"""A domain event as a producer publishes it: every field is checked, and all problems are reported at once.

The payload parts `data`, `context` and `snapshot` are the producer's bytes, cut out of the input and not re-written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

import orjson

from daemon.core.events import raw_json, trace_context

FIELDS = ("tenant", "type", "id", "occurred_at", "data", "context", "snapshot", "backfill")
PAYLOAD = ("data", "context", "snapshot")
MAX_TEXT_CHARACTERS = 128

# A suggestion takes 40 µs, and an event may have thirty thousand unknown fields.
MAX_UNKNOWN_NAMED = 10

# A producer's clock may be ahead: then event time is the time of recording (daemon/README.md, rule 1). More than a day
# is a mistake rather than a clock that is wrong.
MAX_SKEW = timedelta(days=1)

# An older time was never set: Go's zero time is in the year 1.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

# asyncpg writes the first and the last moment of `datetime` as -infinity and infinity, and reads those without a zone.
_FIRST = datetime.min.replace(tzinfo=UTC) + timedelta.resolution
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta.resolution

_TIME = re.compile(
    r"(?P<minute>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}):(?P<second>[0-9]{2})"
    r"(?P<fraction>\.[0-9]+)?(?P<offset>Z|[+-][0-9]{2}:[0-9]{2})"
)
TYPE_PATTERN = r"[a-z0-9_]+(\.[a-z0-9_]+)+"
# All types that begin with the words before the star.
BELOW_PATTERN = r"([a-z0-9_]+\.)+\*"
# Both are parts of addresses, from which every client takes . and .. away.
TENANT_PATTERN = r"(?!\.{1,2}$)[!-~]{1,128}"
ID_PATTERN = r"(?!\.{1,2}$)[ -~]{1,128}"

_TYPE = re.compile(TYPE_PATTERN)
_BELOW = re.compile(BELOW_PATTERN)
_ID = re.compile(ID_PATTERN)
_TENANT = re.compile(TENANT_PATTERN)
_DOTS = "must not be . or .., which lead elsewhere in an address"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """What is wrong with a field, and what would be right. `field` is empty if the problem is with the whole input."""

    field: str
    message: str


@dataclass(slots=True, kw_only=True)
class IncomingEvent:
    """A valid event. `id` is None if the producer set none; payload parts are JSON objects as sent.

    Not frozen: one is created for every event, and creating a frozen one takes three times as long.
    """

    tenant: str
    type: str
    id: str | None
    occurred_at: datetime | None
    data: bytes
    context: bytes | None
    snapshot: bytes | None
    backfill: bool


# Takes a well-formed type and returns why it is refused, None if it is accepted.
TypeTest = Callable[[str], str | None]


def parse(
    raw: bytes, *, now: datetime, max_bytes: int, tenant: str | None = None, type_test: TypeTest | None = None
) -> IncomingEvent | tuple[FieldProblem, ...]:
    """The event in `raw`, or all its problems. `tenant` is the tenant of the caller's token, if it is bound to one."""
    if len(raw) > max_bytes:
        return (
            _problem(
                "", f"the event has {len(raw)} bytes, {max_bytes} are allowed: send a reference to large data instead"
            ),
        )
    try:
        value = raw_json.loads(raw)
    except ValueError as error:
        return (_problem("", f"not valid JSON: {error}"),)
    if not isinstance(value, dict):
        return (
            _problem("", 'an event must be a JSON object, like {"tenant": "acme", "type": "order.create", "data": {}}'),
        )
    try:
        payload, repeated = _payload(raw, value)
    except RecursionError:
        return (_problem("", "the JSON is nested too deeply"),)
    occurred_at = _time(value.get("occurred_at"), now=now)
    problems = [*_unknown(value), *repeated, *_check(value, tenant=tenant, type_test=type_test)]
    if isinstance(occurred_at, FieldProblem):
        problems.append(occurred_at)
    context = payload.get("context")
    if trace_context.published(context) is not context:  # it could not be given back as it is
        problems.append(_problem("context", "begins with a name that is kept for the trace of the event: use another"))
    if problems:
        return tuple(problems)
    return IncomingEvent(
        tenant=value.get("tenant") or tenant or "",
        type=value["type"],
        id=value.get("id"),
        occurred_at=None if isinstance(occurred_at, FieldProblem) else occurred_at,
        data=payload["data"],
        context=context,
        snapshot=payload.get("snapshot"),
        backfill=value.get("backfill") or False,
    )


def instant(text: str) -> datetime:
    """An RFC 3339 time with its offset, as UTC that can be stored. Raises ValueError with a sentence for the user."""
    text = text.upper()
    found = _TIME.fullmatch(text)
    try:
        if found is not None and found["second"] != "60":
            return storable(datetime.fromisoformat(text))
        if found is not None:
            # `datetime` has no second 60: a leap second becomes the second that follows it.
            at = datetime.fromisoformat(f"{found['minute']}:59{found['fraction'] or ''}{found['offset']}")
            return storable(at.astimezone(UTC) + timedelta(seconds=1))
    except (ValueError, OverflowError):  # OverflowError: the time in UTC is before the year 1 or after 9999
        pass
    raise ValueError("must be an RFC 3339 time with offset, like 2026-11-23T08:00:00.000000Z")


def storable(at: datetime) -> datetime:
    """A time in UTC, a microsecond off if it is the first or the last one. Raises OverflowError if UTC has no such."""
    return min(max(at.astimezone(UTC), _FIRST), _LAST)


def pattern_problem(pattern: str) -> str | None:
    """Why a text is no event-type pattern of a route, None if it is `*`, a type, or all types below `prefix.`."""
    if len(pattern) > MAX_TEXT_CHARACTERS:
        return f"has {len(pattern)} characters, {MAX_TEXT_CHARACTERS} are allowed"
    if pattern == "*" or _TYPE.fullmatch(pattern) or _BELOW.fullmatch(pattern):
        return None
    why = ", as * stands only at the end and after a dot" if "*" in pattern.removesuffix(".*") else ""
    return (
        f"{pattern!r} is no event type{why}: use a type like order.create, all below a prefix like order.* or "
        "customer.subscription.*, or * for all"
    )


def tenant_problem(tenant: str) -> str | None:
    """Why a text is no tenant id, None if it is one."""
    if _TENANT.fullmatch(tenant):
        return None
    return _DOTS if tenant in (".", "..") else "must be 1 to 128 printable ASCII characters without spaces"


def _check(value: Mapping[str, object], *, tenant: str | None, type_test: TypeTest | None) -> list[FieldProblem]:
    problems = _check_tenant(value.get("tenant"), tenant)
    event_type = value.get("type")
    if event_type is None:
        problems.append(_problem("type", "is missing: give it like order.create"))
    elif not (isinstance(event_type, str) and len(event_type) <= MAX_TEXT_CHARACTERS and _TYPE.fullmatch(event_type)):
        problems.append(
            _problem(
                "type",
                "must be object.action in lower case (a-z, 0-9, _), like order.create, of at most 128 characters",
            )
        )
    elif type_test is not None and (message := type_test(event_type)) is not None:
        problems.append(_problem("type", message))
    event_id = value.get("id")
    if event_id is not None and not (isinstance(event_id, str) and _ID.fullmatch(event_id)):
        is_dots = event_id in (".", "..")
        problems.append(
            _problem("id", _DOTS if is_dots else "must be 1 to 128 printable ASCII characters, or left out")
        )
    if "data" not in value:
        problems.append(_problem("data", "is missing: give an object, {} if there is nothing to say"))
    for name in PAYLOAD:
        part = value.get(name)
        if not isinstance(part, dict) and (part is not None or (name == "data" and name in value)):
            problems.append(_problem(name, "must be a JSON object"))
    if not isinstance(value.get("backfill"), bool | None):
        problems.append(_problem("backfill", "must be true or false"))
    return problems


def _check_tenant(given: object, tenant: str | None) -> list[FieldProblem]:
    message: str | None = None
    if given is None:
        message = None if tenant is not None else "is missing: name the merchant that the event belongs to"
    elif not isinstance(given, str):
        message = tenant_problem("")
    elif tenant_problem(given) is None and tenant not in (None, given):
        message = "is another tenant than the one you publish for: leave it out, or publish for that one"
    else:
        message = tenant_problem(given)
    return [] if message is None else [_problem("tenant", message)]


def _time(value: object, *, now: datetime) -> datetime | FieldProblem | None:
    """The `occurred_at` of an event, None if it was left out, or what is wrong with it."""
    if value is None:
        return None
    if not isinstance(value, str):
        return _problem("occurred_at", "must be an RFC 3339 time with offset, like 2026-11-23T08:00:00.000000Z")
    try:
        at = instant(value)
    except ValueError as error:
        return _problem("occurred_at", str(error))
    if at < EARLIEST:
        return _problem("occurred_at", "lies before 1970: give the time at which it happened, or leave it out")
    if at > now + MAX_SKEW:
        return _problem(
            "occurred_at", "lies more than a day in the future: correct the producer's clock, or leave it out"
        )
    return at


def _unknown(value: Mapping[str, object]) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    for name in value:
        if name not in FIELDS and len(problems) < MAX_UNKNOWN_NAMED:
            near = get_close_matches(name[:MAX_TEXT_CHARACTERS], FIELDS, n=1)
            meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(FIELDS)}"
            shown = name[:MAX_TEXT_CHARACTERS].encode(errors="replace").decode()  # it may have half a character
            problems.append(_problem(shown, f"is not a field of an event: {meant}"))
    return problems


def _payload(raw: bytes, value: Mapping[str, object]) -> tuple[dict[str, bytes], list[FieldProblem]]:
    """The raw texts of the payload parts that are not null, and a problem for each field given more than once.

    Raises RecursionError for more than `raw_json.MAX_DEPTH` levels of nesting.
    """
    try:
        # If orjson writes the same bytes, each key is given once, and its output for a part is what was sent.
        if orjson.dumps(value) == raw:
            return {name: orjson.dumps(value[name]) for name in PAYLOAD if value.get(name) is not None}, []
    except orjson.JSONEncodeError:  # too deep, or half a character, which orjson does not write
        raw_json.check_depth(value)
    members = raw_json.members(raw.decode())
    payload = {name: text.encode() for name, text in members if name in PAYLOAD and text != "null"}
    return payload, _repeated([name for name, _ in members])


def _repeated(names: list[str]) -> list[FieldProblem]:
    if len(set(names)) == len(names):
        return []
    return [_problem(name, "is given more than once") for name in FIELDS if names.count(name) > 1]


def _problem(field: str, message: str) -> FieldProblem:
    return FieldProblem(field=field, message=message)
