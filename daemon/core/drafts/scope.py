"""What a token is for: a kind, and for some kinds the one tenant that it stands for.

`admin`, `metrics`, `producer`, `producer:acme`, `auditor`, `auditor:acme`, `tenant:acme`. What each kind gives access
to is a table of the listeners (web/access/auth.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from daemon.core.events.event import tenant_problem


class ScopeKind(StrEnum):
    ADMIN = "admin"
    PRODUCER = "producer"
    TENANT = "tenant"
    AUDITOR = "auditor"
    METRICS = "metrics"


# Kinds that must, and that must not, stand for a tenant; the others may.
BOUND = frozenset({ScopeKind.TENANT})
UNBOUND = frozenset({ScopeKind.ADMIN, ScopeKind.METRICS})


class ScopeProblem(ValueError):
    """Why something is no scope; `field` is the part of it that is wrong: scope or tenant."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """`tenant` is None for all of them."""

    kind: ScopeKind
    tenant: str | None = None

    def __post_init__(self) -> None:
        if self.tenant is None and self.kind in BOUND:
            raise ScopeProblem("tenant", f"is missing: write {self.kind}:<id>, for the tenant that it stands for")
        if self.tenant is not None and self.kind in UNBOUND:
            raise ScopeProblem("tenant", f"must be left out: {self.kind} stands for no tenant")
        problem = None if self.tenant is None else tenant_problem(self.tenant)
        if problem is not None:
            raise ScopeProblem("tenant", problem)

    def __str__(self) -> str:
        return self.kind if self.tenant is None else f"{self.kind}:{self.tenant}"


def parse(text: str, tenant: str | None = None) -> Scope:
    """The scope that `text` names; its tenant may be given apart. Raises ScopeProblem."""
    name, colon, named = text.partition(":")
    if name not in list(ScopeKind):
        near = get_close_matches(name, list(ScopeKind), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(ScopeKind)}"
        raise ScopeProblem("scope", f"is not known: {hint}")
    if colon and tenant not in (None, named):
        raise ScopeProblem("tenant", "is another one than that of the scope: name it once")
    return Scope(kind=ScopeKind(name), tenant=named if colon else tenant)
