"""Request bodies: read within limits of size and time, unpacked, and parsed as JSON without repeated names.

Parsers disagree about a name that an object has twice, so a command with one is refused. An event's payload belongs to
its producer and is passed on as it came.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext

import orjson
from aiohttp import web

from daemon.commands import Invalid
from daemon.core.events import raw_json
from daemon.core.events.event import FieldProblem
from daemon.web.http.problems import Problem
from daemon.web.http.requests.inflation import inflater_of

# Timeout for the next chunk of a body: long enough for a slow connection, short enough that idle senders do not
# accumulate.
READ_SECONDS = 30.0

# Timeout for a whole body: one byte now and then would hold what is there of it for ever.
BODY_SECONDS = 120.0

# Lists and objects within each other. Fields say of themselves how deep they may be; this is for what none could be.
_MAX_LEVELS = 500


async def read(request: web.Request, *, max_bytes: int) -> bytes:
    """The whole body. Raises Problem 413 once it is known to exceed `max_bytes`, 408 if it comes too slowly."""
    body = bytearray()
    async for chunk in chunks(request, max_bytes=max_bytes):
        body += chunk
    return bytes(body)


def parsed_object(
    raw: bytes, *, bare: str | None = None, opaque: str | None = None, max_values: int | None = None
) -> Mapping[str, object]:
    """The JSON object in `raw`. If `bare` is given, a list is accepted as the value of that field.

    An object in the field `opaque` may be all that a published event may be. It is not read: its value here is an
    empty object, and the caller takes its text.

    Raises Problem for what is no such JSON, or has more values than `max_values`, and Invalid for names that an object
    has twice.
    """
    try:
        raw = raw if opaque is None else _emptied(raw, opaque)
        if max_values is not None:
            _check_values(raw, max_values)
        value = orjson.loads(raw)
        raw_json.check_depth(value, most=_MAX_LEVELS)
        repeated = _repeated(raw)
    except ValueError as error:
        raise Problem(400, f"the body is not valid JSON: {raw_json.reason(raw, error)}") from error
    except RecursionError as error:
        raise Problem(400, "the body is nested too deeply") from error
    if isinstance(value, list) and bare is not None:
        value = {bare: value}
    if not isinstance(value, dict):
        raise Problem(400, f"the body must be a JSON object{'' if bare is None else ' or list'}")
    if repeated:
        raise Invalid(tuple(FieldProblem(field=name, message="is given more than once") for name in repeated))
    return value


async def _raw_chunks(request: web.Request, *, max_bytes: int) -> AsyncIterator[bytes]:
    """The body as it was sent."""
    announced_bytes = request.content_length or 0
    received_bytes = 0
    clock = asyncio.get_running_loop().time
    ends_at = clock() + BODY_SECONDS
    while True:
        if max(announced_bytes, received_bytes) > max_bytes:
            raise _too_large(max_bytes)
        try:
            # A body that has come whole, as that of one event has, is not waited for. A timeout takes 5 µs.
            async with (
                nullcontext() if request.content.is_eof() else asyncio.timeout(min(READ_SECONDS, ends_at - clock()))
            ):
                chunk = await request.content.readany()
        except TimeoutError as error:
            if clock() >= ends_at:
                raise Problem(408, f"the body took longer than {BODY_SECONDS:g} s; nothing was stored") from error
            raise Problem(408, f"nothing came for {READ_SECONDS:g} s, and the body is not whole") from error
        if not chunk:
            return
        received_bytes += len(chunk)
        if received_bytes <= max_bytes:
            yield chunk


def _check_values(raw: bytes, most: int) -> None:
    """Raises Problem 413 for JSON with more than about so many values: each may cost an error of its own."""
    if raw.count(b",") >= most:
        raise Problem(413, f"the body has more than {most} values; nothing was done")


async def chunks(request: web.Request, *, max_bytes: int) -> AsyncIterator[bytes]:
    """The body, chunk by chunk; a packed one is unpacked, and `max_bytes` holds for both. Raises Problem like `read`.

    Raises Problem 415 for an encoding that is not taken, 400 for a body that is not encoded so.
    """
    inflater = inflater_of(request)
    if inflater is None:
        async for chunk in _raw_chunks(request, max_bytes=max_bytes):
            yield chunk
        return
    unpacked_bytes = 0
    async for packed in _raw_chunks(request, max_bytes=max_bytes):
        for chunk in inflater.feed(packed):
            unpacked_bytes += len(chunk)
            if unpacked_bytes > max_bytes:
                raise _too_large(max_bytes)
            if chunk:
                yield chunk
            await asyncio.sleep(0)  # one chunk may unpack to all that is allowed
    inflater.end()


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, f"the body has more than {max_bytes} bytes; nothing was stored")


def _emptied(raw: bytes, opaque: str) -> bytes:
    """The body with an empty object in place of the object in a field. What is no JSON object is returned as it is."""
    try:
        raw_json.loads(raw)
        members = raw_json.members(raw.decode())
    except ValueError:
        return raw
    parts = ((name, "{}" if name == opaque and text.startswith("{") else text) for name, text in members)
    return f"{{{','.join(f'{json.dumps(name)}:{text}' for name, text in parts)}}}".encode()


def _repeated(raw: bytes) -> list[str]:
    """The names that an object in a valid JSON text has more than once."""
    repeated: list[str] = []

    def check_names(members: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for name, _ in members:
            if name in seen:
                repeated.append(name)
            seen.add(name)

    json.loads(raw, object_pairs_hook=check_names)
    return repeated
