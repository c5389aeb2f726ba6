"""Every operation of the OpenAPI document, for tests that send unexpected input to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.web.application import Answer, App
from tests.support.web.openapi_conformance import closed, resolved


@dataclass(frozen=True, kw_only=True)
class Operation:
    method: str
    path: str
    body: dict[str, Any] | None
    query: dict[str, dict[str, Any]]
    headers: frozenset[str]

    @property
    def is_of_known(self) -> bool:
        """True if the path names only a tenant and a route, which exist in tests."""
        return self.path.count("{") <= self.path.count("{tenant}") + self.path.count("{route}")


async def operations(app: App) -> list[Operation]:
    raw = (await app.ask("GET", "/openapi.json")).text.encode()
    document = closed(raw)
    found = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            parameters = [resolved(document, each) for each in operation.get("parameters", ())]
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            found.append(
                Operation(
                    method=method.upper(),
                    path=path,
                    body=None if content is None else {**document, **resolved(document, content["schema"])},
                    query={each["name"]: each for each in parameters if each["in"] == "query"},
                    headers=frozenset(each["name"] for each in parameters if each["in"] == "header"),
                )
            )
    return found


def place(operation: Operation, route: str, names: Mapping[str, str] | None = None) -> str:
    known = {"tenant": "acme", "route": route} | dict(names or {})
    return "/".join(
        known.get(part[1:-1], "00000000-0000-4000-8000-000000000000") if part.startswith("{") else part
        for part in operation.path.split("/")
    )


def required(operation: Operation, *, but: str = "") -> str:
    """The required query parameters except `but`, as the beginning of a query string."""
    return "".join(f"{name}=x&" for name, each in operation.query.items() if each.get("required") and name != but)


def is_problem(answer: Answer) -> bool:
    return (
        400 <= answer.status < 500
        and answer.headers["Content-Type"] == "application/problem+json"
        and bool(answer.json["detail"])
        and "X-Evil" not in answer.headers
    )
