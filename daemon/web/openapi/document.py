"""The OpenAPI document: every operation of an application, generated from its declaration, and the shared parts.

Most errors of an operation follow from its declaration: an endpoint that takes a body can refuse one, for example. So
an endpoint declares only its particular errors.
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
from daemon.web.http import paging
from daemon.web.http.endpoints import Access, Declaration, Media, Query, declared
from daemon.web.http.problems import ProblemShape
from daemon.web.openapi import schemas, vocabulary
from daemon.web.openapi.schemas import Schema, example

_NAME = re.compile(r"\{(\w+)\}")
_PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a path, and its handler."""

    method: str
    path: str
    handler: object

    @property
    def declared(self) -> Declaration:
        """The declaration of the handler. Raises LookupError if it has none."""
        found = declared(self.handler)
        if found is None:
            raise LookupError(f"{self.method} {self.path} declares nothing")
        return found

    @property
    def topic(self) -> str:
        """The name of the module of the handler."""
        return str(self.handler.__module__).rpartition(".")[2]

    @property
    def id(self) -> str:
        """Like `routes.list`."""
        noun = self.topic.rstrip("s")
        name = re.sub(f"_{noun}s?$", "", str(getattr(self.handler, "__name__", "")))
        return name if name == self.topic else f"{self.topic}.{name}"

    @property
    def docstring(self) -> str:
        return (self.handler.__doc__ or "").strip()


def operations(application: web.Application) -> tuple[Operation, ...]:
    """The endpoints of an application, without its pages, and without HEAD, which every GET has."""
    return tuple(
        Operation(method=route.method, path=route.resource.canonical, handler=route.handler)
        for route in application.router.routes()
        if route.method != "HEAD" and route.resource is not None and _is_documented(route.handler)
    )


@lru_cache(maxsize=4)
def rendered(operations: tuple[Operation, ...]) -> bytes:
    """The document as JSON."""
    return orjson.dumps(document(operations), option=orjson.OPT_NON_STR_KEYS)


def document(operations: tuple[Operation, ...]) -> Schema:
    """The document of these operations."""
    body_types = {repr(body_type): body_type for each in operations for body_type in _body_types(each.declared)}
    by_type, definitions = schemas.of_types([ProblemShape, *body_types.values()])
    for media in (media for each in operations for media in _media(each.declared)):
        definitions[media.name] = dict(media.schema)
    paths: dict[str, Schema] = {}
    for each in operations:
        item = paths.setdefault(each.path, _path_parameters(each.path))
        item[each.method.lower()] = _operation(each, _Bodies(by_type, definitions))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hookledger",
            "version": __version__,
            "description": vocabulary.DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": _tags(operations),
        "security": [{name: []} for name in vocabulary.CREDENTIALS],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(definitions.items())),
            "responses": {name: _refusal(status) for status, (name, _) in vocabulary.REFUSALS.items()},
            "parameters": dict(vocabulary.HEADERS),
            "headers": dict(vocabulary.ANSWER_HEADERS),
            "securitySchemes": dict(vocabulary.CREDENTIALS),
        },
    }


def refusals(declared: Declaration, path: str) -> list[int]:
    """The statuses of all errors that an endpoint can answer."""
    found = {400, 500, *declared.refuses}
    if declared.access is not Access.OPEN:
        found |= {401, 403, 421, 429, 503}
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
    return sorted(found - declared.answers.keys())


class _Bodies:
    """Bodies of requests and answers, each with an example."""

    def __init__(self, by_type: dict[object, Schema], definitions: Mapping[str, Schema]) -> None:
        self._by_type = by_type
        self._definitions = definitions

    def content(self, body: object) -> Schema:
        """The content of a body of that type or media."""
        if isinstance(body, Media):
            reference = {"$ref": f"#/components/schemas/{body.name}"}
            return {body.content_type: {"schema": reference, "example": body.example}}
        schema = schemas.schema_of(self._by_type, body)
        return {"application/json": {"schema": schema, "example": example(schema, self._definitions)}}

    def request(self, takes: type[BaseModel] | tuple[Media, ...]) -> Schema:
        if isinstance(takes, tuple):
            contents = [self.content(media) for media in takes]
            return {"required": True, "content": {name: each for content in contents for name, each in content.items()}}
        is_required = any(field.is_required() for field in takes.model_fields.values())
        return {"required": is_required, "content": self.content(takes)}


def _operation(operation: Operation, bodies: _Bodies) -> Schema:
    declared = operation.declared
    summary, _, rest = " ".join(operation.docstring.split()).partition(". ")
    schema: Schema = {
        "operationId": operation.id,
        "tags": [operation.topic],
        "summary": summary.rstrip("."),
        "description": " ".join(part for part in (rest, vocabulary.access(declared.access)) if part),
    }
    if parameters := [*map(_query, declared.query), *_headers(declared)]:
        schema["parameters"] = parameters
    if declared.takes is not None:
        schema["requestBody"] = bodies.request(declared.takes)
    if declared.access is Access.OPEN:
        schema["security"] = []
    answers = {str(status): _answer(status, body, declared, bodies) for status, body in declared.answers.items()}
    refused = {str(status): _refused(status) for status in refusals(declared, operation.path)}
    return schema | {"responses": answers | refused}


def _answer(status: int, body: object, declared: Declaration, bodies: _Bodies) -> Schema:
    names = ["ETag"] if declared.is_versioned and body is not None else []
    if status == HTTPStatus.CREATED:
        names.append("Location")
    schema: Schema = {"description": HTTPStatus(status).phrase}
    if names:
        schema["headers"] = {name: _reference("headers", name) for name in names}
    content = {} if body is None else bodies.content(body)
    if paging.EXPORT in declared.query:
        content |= vocabulary.EXPORTS
    return schema | {"content": content} if content else schema


def _refused(status: int) -> Schema:
    """The reference to a shared response."""
    name, _ = vocabulary.REFUSALS[status]
    return _reference("responses", name)


def _refusal(status: int) -> Schema:
    """A shared response."""
    _, sentence = vocabulary.REFUSALS[status]
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": sentence}
    schema: Schema = {
        "description": sentence,
        "content": {_PROBLEM: {"schema": _reference("schemas", "Problem"), "example": body}},
    }
    headers = vocabulary.REFUSAL_HEADERS.get(status)
    return schema if headers is None else schema | {"headers": headers}


def _path_parameters(path: str) -> Schema:
    unknown: Schema = {"schema": {"type": "string"}}
    parameters = [
        {"name": name, "in": "path", "required": True} | vocabulary.PATH_PARAMETERS.get(name, unknown)
        for name in _NAME.findall(path)
    ]
    return {"parameters": parameters} if parameters else {}


def _query(parameter: Query) -> Schema:
    schema: Schema = {"name": parameter.name, "in": "query", "description": parameter.description}
    schema["schema"] = dict(parameter.schema)
    return schema | {"required": True} if parameter.is_required else schema


def _headers(declared: Declaration) -> list[Schema]:
    is_publish = declared.access is Access.PUBLISH
    names = ["traceparent", "tracestate"] if is_publish else []
    if declared.is_command or is_publish:
        names.append("Idempotency-Key")
    if declared.is_command and declared.is_versioned:
        names.append("If-Match")
    return [_reference("parameters", name) for name in names]


def _tags(operations: tuple[Operation, ...]) -> list[Schema]:
    """Each topic with the first sentence of its module's docstring."""
    modules = {each.topic: str(each.handler.__module__) for each in operations}
    texts = {topic: " ".join((sys.modules[module].__doc__ or "").split()) for topic, module in modules.items()}
    return [{"name": topic, "description": text.partition(". ")[0].rstrip(".")} for topic, text in texts.items()]


def _body_types(declared: Declaration) -> list[object]:
    """The types of an operation's bodies."""
    takes = [] if declared.takes is None or isinstance(declared.takes, tuple) else [declared.takes]
    return [*takes, *(body for body in declared.answers.values() if body is not None and not isinstance(body, Media))]


def _media(declared: Declaration) -> list[Media]:
    takes = declared.takes if isinstance(declared.takes, tuple) else ()
    return [*takes, *(body for body in declared.answers.values() if isinstance(body, Media))]


def _reference(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def _is_documented(handler: object) -> bool:
    found = declared(handler)
    return found is not None and not found.is_page
