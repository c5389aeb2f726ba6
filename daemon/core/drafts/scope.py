"""The scope of a token: a kind, and for some kinds one tenant.

Examples: `admin`, `metrics`, `producer`, `producer:acme`, `auditor`, `auditor:acme`, `tenant:acme`. The table in
daemon/web/access/auth.py says which requests each kind may make.
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


# Kinds that require a tenant, and kinds that allow none; for the others it is optional.
BOUND = frozenset({ScopeKind.TENANT})
UNBOUND = frozenset({ScopeKind.ADMIN, ScopeKind.METRICS})


class ScopeProblem(ValueError):
    """Why a scope is invalid; `field` is the part that is wrong, `scope` or `tenant`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """`tenant` is None if the scope is not limited to one tenant. Raises ScopeProblem if kind and tenant do not fit."""

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
    """The scope in `text`. The tenant may be given separately instead. Raises ScopeProblem."""
    name, colon, own_tenant = text.partition(":")
    if name not in list(ScopeKind):
        near = get_close_matches(name, list(ScopeKind), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(ScopeKind)}"
        raise ScopeProblem("scope", f"is not known: {hint}")
    if colon and tenant not in (None, own_tenant):
        raise ScopeProblem("tenant", "is another one than that of the scope: name it once")
    return Scope(kind=ScopeKind(name), tenant=own_tenant if colon else tenant)
