"""Checks every answer of the application under test against the OpenAPI document: status, headers, type and body.

The check closes all objects: a field that is not in the document is a mistake here, though clients must expect new
fields.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import jsonschema_rs
from aiohttp import web

from daemon.web.http.endpoints import declared
from daemon.web.openapi.document import operations, rendered

# aiohttp answers so before any endpoint is called.
EXPECTATION_FAILED = 417


class OpenApiConformance:
    """`violations` has a line for each answer that does not conform."""

    def __init__(self, application: web.Application) -> None:
        self.violations: list[str] = []
        self._raw = rendered(operations(application))
        application.on_response_prepare.append(self._look)

    async def _look(self, request: web.Request, response: web.StreamResponse) -> None:
        route = request.match_info.route
        if route.resource is None or not isinstance(response, web.Response) or response.status == EXPECTATION_FAILED:
            return
        declaration = declared(route.handler)
        is_page = response.content_type == "text/html" or (declaration is not None and declaration.is_page)
        if is_page:
            return
        method = "get" if request.method == "HEAD" else request.method.lower()
        found = problem_of(self._raw, method, route.resource.canonical, response)
        if found is not None:
            self.violations.append(f"{request.method} {request.path} → {response.status}: {found}")


def problem_of(raw: bytes, method: str, path: str, response: web.Response) -> str | None:
    """How an answer differs from the document; None if it does not."""
    document = closed(raw)
    operation = document["paths"].get(path, {}).get(method, {"responses": {}})
    if str(response.status) not in operation["responses"]:
        return "the status is not declared"
    declared = resolved(document, operation["responses"][str(response.status)])
    missing = declared.get("headers", {}).keys() - response.headers.keys()
    if missing:
        return f"has no {missing}"
    content = declared.get("content", {})
    if not content:
        return "has a body" if response.body else None
    if response.content_type not in content:
        return f"{response.content_type} is not declared"
    return _wrong_body(raw, json.dumps(content[response.content_type]["schema"]), response)


def _wrong_body(raw: bytes, schema: str, response: web.Response) -> str | None:
    assert isinstance(response.body, bytes)
    body = json.loads(response.body) if response.content_type.endswith("json") else response.body.decode()
    errors = validator(raw, schema).iter_errors(body)
    return next((f"{error.instance_path}: {error.message}" for error in errors), None)


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """A part of the document with its `$ref` followed."""
    if "$ref" not in part:
        return part
    found: Any = document
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


@lru_cache(maxsize=4)
def closed(raw: bytes) -> dict[str, Any]:
    """The document, in which every object with named fields forbids others."""
    document: dict[str, Any] = json.loads(raw)
    _close(document["components"]["schemas"])
    return document


@lru_cache(maxsize=1024)
def validator(raw: bytes, schema: str) -> Any:
    """The validator of a schema in the document."""
    whole = json.loads(schema) | {"components": closed(raw)["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def _close(part: Any) -> None:
    if isinstance(part, dict):
        if part.get("type") == "object" and "properties" in part:
            part.setdefault("additionalProperties", False)
        for each in part.values():
            _close(each)
    elif isinstance(part, list):
        for each in part:
            _close(each)
