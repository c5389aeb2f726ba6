"""The document: each operation from its declaration, and the parts that they share.

Which errors an operation can answer follows from what it is - whoever takes a body may refuse one - so an endpoint
declares only those that are its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

import orjson
from aiohttp import web
from pydantic import BaseModel

from daemon import __version__
from daemon.web.http.endpoints import Access, Declared, Media, Query, declared
from daemon.web.http.problems import ProblemShape
from daemon.web.openapi import schemas
from daemon.web.openapi import vocabulary as words
from daemon.web.openapi.schemas import Schema, example

_NAME = re.compile(r"\{(\w+)\}")
_PROBLEM = "application/problem+json"


@lru_cache(maxsize=4)
def rendered(operations: tuple[Operation, ...]) -> bytes:
    """The document as JSON."""
    return orjson.dumps(document(operations), option=orjson.OPT_NON_STR_KEYS)


def document(operations: tuple[Operation, ...]) -> Schema:
    """The document of these operations."""
    kinds = {repr(kind): kind for each in operations for kind in _kinds(each.declared)}
    found, definitions = schemas.of_types([ProblemShape, *kinds.values()])
    for media in (media for each in operations for media in _media(each.declared)):
        definitions[media.name] = dict(media.schema)
    paths: dict[str, Schema] = {}
    for each in operations:
        item = paths.setdefault(each.path, _path_parameters(each.path))
        item[each.method.lower()] = _operation(each, _Bodies(found, definitions))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hookledger",
            "version": __version__,
            "description": words.DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": _tags(operations),
        "security": [{name: []} for name in words.CREDENTIALS],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(definitions.items())),
            "responses": {name: _refusal(status) for status, (name, _) in words.REFUSALS.items()},
            "parameters": dict(words.HEADERS),
            "headers": dict(words.ANSWER_HEADERS),
            "securitySchemes": dict(words.CREDENTIALS),
        },
    }


def refusals(declared: Declared, path: str) -> list[int]:
    """The statuses of all errors that an endpoint can answer."""
    found = {400, 500, *declared.refuses}
    if declared.access is not Access.OPEN:
        found |= {401, 403, 421, 503}
    if declared.access not in (Access.OPEN, Access.METRICS):
        found |= {422}
    if "{tenant}" in path:
        found |= {404}
    if declared.takes is not None:
        found |= {408, 413, 415, 422}
    if declared.is_command:
        found |= {409}
    if declared.is_command and declared.is_versioned:
        found |= {412}
    if declared.limit is not None:
        found |= {429}
    return sorted(found - declared.answers.keys())


class _Bodies:
    """Bodies of requests and answers, each with an example."""

    def __init__(self, found: dict[object, Schema], definitions: Mapping[str, Schema]) -> None:
        self._found = found
        self._definitions = definitions

    def of(self, kind: object) -> Schema:
        """The content of a body of that type."""
        if isinstance(kind, Media):
            reference = {"$ref": f"#/components/schemas/{kind.name}"}
            return {kind.content_type: {"schema": reference, "example": kind.example}}
        schema = schemas.schema_of(self._found, kind)
        return {"application/json": {"schema": schema, "example": example(schema, self._definitions)}}

    def request(self, takes: type[BaseModel] | tuple[Media, ...]) -> Schema:
        if isinstance(takes, tuple):
            return {"required": True, "content": {name: it for media in takes for name, it in self.of(media).items()}}
        is_required = any(field.is_required() for field in takes.model_fields.values())
        return {"required": is_required, "content": self.of(takes)}


def _operation(it: Operation, bodies: _Bodies) -> Schema:
    declared = it.declared
    summary, _, more = " ".join(it.docstring.split()).partition(". ")
    shown: Schema = {
        "operationId": it.id,
        "tags": [it.topic],
        "summary": summary.rstrip("."),
        "description": " ".join(part for part in (more, words.access(declared.access)) if part),
    }
    if parameters := [*map(_query, declared.query), *_headers(declared)]:
        shown["parameters"] = parameters
    if declared.takes is not None:
        shown["requestBody"] = bodies.request(declared.takes)
    if declared.access is Access.OPEN:
        shown["security"] = []
    answers = {str(status): _answer(status, kind, declared, bodies) for status, kind in declared.answers.items()}
    refused = {str(status): _refused(status) for status in refusals(declared, it.path)}
    return shown | {"responses": answers | refused}


def _answer(status: int, kind: object, declared: Declared, bodies: _Bodies) -> Schema:
    names = ["ETag"] if declared.is_versioned and kind is not None else []
    if status == HTTPStatus.CREATED:
        names.append("Location")
    shown: Schema = {"description": HTTPStatus(status).phrase}
    if names:
        shown["headers"] = {name: _reference("headers", name) for name in names}
    return shown if kind is None else shown | {"content": bodies.of(kind)}


def _refused(status: int) -> Schema:
    name, _ = words.REFUSALS[status]
    return _reference("responses", name)


def _refusal(status: int) -> Schema:
    _, sentence = words.REFUSALS[status]
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": sentence}
    shown: Schema = {
        "description": sentence,
        "content": {_PROBLEM: {"schema": _reference("schemas", "Problem"), "example": body}},
    }
    headers = words.REFUSAL_HEADERS.get(status)
    return shown if headers is None else shown | {"headers": headers}


def _path_parameters(path: str) -> Schema:
    unknown: Schema = {"schema": {"type": "string"}}
    shown = [
        {"name": name, "in": "path", "required": True} | words.PATH_PARAMETERS.get(name, unknown)
        for name in _NAME.findall(path)
    ]
    return {"parameters": shown} if shown else {}


def _query(it: Query) -> Schema:
    shown: Schema = {"name": it.name, "in": "query", "description": it.description, "schema": dict(it.schema)}
    return shown | {"required": True} if it.is_required else shown


def _headers(declared: Declared) -> list[Schema]:
    names = ["Idempotency-Key"] if declared.is_command else []
    if declared.is_command and declared.is_versioned:
        names.append("If-Match")
    return [_reference("parameters", name) for name in names]


def _tags(operations: tuple[Operation, ...]) -> list[Schema]:
    """Each topic with the first sentence of its module."""
    modules = {each.topic: str(each.handler.__module__) for each in operations}
    texts = {topic: " ".join((sys.modules[module].__doc__ or "").split()) for topic, module in modules.items()}
    return [{"name": topic, "description": text.partition(". ")[0].rstrip(".")} for topic, text in texts.items()]


def _kinds(declared: Declared) -> list[object]:
    """The types of an operation's bodies."""
    takes = [] if declared.takes is None or isinstance(declared.takes, tuple) else [declared.takes]
    return [*takes, *(kind for kind in declared.answers.values() if kind is not None and not isinstance(kind, Media))]


def _media(declared: Declared) -> list[Media]:
    takes = declared.takes if isinstance(declared.takes, tuple) else ()
    return [*takes, *(kind for kind in declared.answers.values() if isinstance(kind, Media))]


def _reference(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


# The endpoints of an application, as its router knows them.


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a path, and its handler."""

    method: str
    path: str
    handler: object

    @property
    def declared(self) -> Declared:
        """What the handler declares. Raises LookupError if it does not."""
        found = declared(self.handler)
        if found is None:
            raise LookupError(f"{self.method} {self.path} declares nothing")
        return found

    @property
    def topic(self) -> str:
        """The name of the module that it stands in."""
        return str(self.handler.__module__).rpartition(".")[2]

    @property
    def id(self) -> str:
        """Like `routes.list`."""
        thing = self.topic.rstrip("s")
        name = re.sub(f"_{thing}s?$", "", str(getattr(self.handler, "__name__", "")))
        return name if name == self.topic else f"{self.topic}.{name}"

    @property
    def docstring(self) -> str:
        return (self.handler.__doc__ or "").strip()


def operations(application: web.Application) -> tuple[Operation, ...]:
    """Every endpoint of an application but its pages; HEAD goes without saying where there is GET."""
    return tuple(
        Operation(method=route.method, path=route.resource.canonical, handler=route.handler)
        for route in application.router.routes()
        if route.method != "HEAD" and route.resource is not None and _is_documented(route.handler)
    )


def _is_documented(handler: object) -> bool:
    found = declared(handler)
    return found is not None and not found.is_page
