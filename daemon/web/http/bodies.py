"""Bodies as bytes, and JSON as we take it: within size and time, valid, and no name twice in an object.

A name given twice means something else to each reader; for a command that is a mistake. (An event's payload is the
producer's own and passes as it is.)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import orjson
from aiohttp import web

from daemon.commands import Invalid
from daemon.core.events.event import FieldProblem
from daemon.web.http.problems import Problem

# For the next piece of a body: long for a slow line, short enough that idle senders do not gather.
READ_SECONDS = 30.0


async def read(request: web.Request, *, most_bytes: int) -> bytes:
    """The whole body. Raises Problem 413 once it is known to be longer than `most_bytes`, 408 if it stops coming."""
    body = bytearray()
    async for chunk in chunks(request, most_bytes=most_bytes):
        body += chunk
    return bytes(body)


async def chunks(request: web.Request, *, most_bytes: int) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Problem like `read`."""
    size_bytes = request.content_length or 0
    received_bytes = 0
    while True:
        if max(size_bytes, received_bytes) > most_bytes:
            raise Problem(413, f"the body has more than {most_bytes} bytes; nothing was stored")
        try:
            async with asyncio.timeout(READ_SECONDS):
                chunk = await request.content.readany()
        except TimeoutError as error:
            raise Problem(408, f"nothing came for {READ_SECONDS:g} s, and the body is not whole") from error
        if not chunk:
            return
        received_bytes += len(chunk)
        if received_bytes <= most_bytes:
            yield chunk


def parsed_object(raw: bytes, *, bare: str | None = None) -> Mapping[str, object]:
    """The JSON object in `raw`; a list is taken for its field `bare`. Raises Problem, and Invalid for names given
    twice.
    """
    try:
        value = orjson.loads(raw)
        repeated = _repeated(raw)
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise Problem(400, "the body is nested too deeply") from error
    if isinstance(value, list) and bare is not None:
        value = {bare: value}
    if not isinstance(value, dict):
        raise Problem(400, f"the body must be a JSON object{'' if bare is None else ' or list'}")
    if repeated:
        raise Invalid(tuple(FieldProblem(field=name, message="is given more than once") for name in repeated))
    return value


def _repeated(raw: bytes) -> list[str]:
    """Names that an object of a valid JSON text has twice."""
    found: list[str] = []

    def look(members: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for name, _ in members:
            if name in seen:
                found.append(name)
            seen.add(name)

    json.loads(raw, object_pairs_hook=look)
    return found
