"""Scopes: valid ones, invalid ones, and the reasons."""

import pytest

from daemon.core.drafts.scope import Scope, ScopeKind, ScopeProblem, parse


@pytest.mark.parametrize(
    ("text", "tenant", "scope"),
    [
        ("admin", None, Scope(kind=ScopeKind.ADMIN)),
        ("metrics", None, Scope(kind=ScopeKind.METRICS)),
        ("producer", None, Scope(kind=ScopeKind.PRODUCER)),
        ("producer:acme", None, Scope(kind=ScopeKind.PRODUCER, tenant="acme")),
        ("producer", "acme", Scope(kind=ScopeKind.PRODUCER, tenant="acme")),
        ("producer:acme", "acme", Scope(kind=ScopeKind.PRODUCER, tenant="acme")),
        ("tenant:acme", None, Scope(kind=ScopeKind.TENANT, tenant="acme")),
        ("tenant", "acme", Scope(kind=ScopeKind.TENANT, tenant="acme")),
        ("tenant:a:b", None, Scope(kind=ScopeKind.TENANT, tenant="a:b")),
        ("auditor", None, Scope(kind=ScopeKind.AUDITOR)),
        ("auditor:acme", None, Scope(kind=ScopeKind.AUDITOR, tenant="acme")),
    ],
)
def test_a_scope_is_a_kind_and_perhaps_a_tenant(text: str, tenant: str | None, scope: Scope) -> None:
    assert parse(text, tenant) == scope


@pytest.mark.parametrize("text", ["admin", "producer", "producer:acme", "tenant:a:b", "auditor:acme", "metrics"])
def test_a_scope_is_written_as_it_is_read(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "tenant", "field", "message"),
    [
        ("", None, "scope", "known are admin, producer, tenant, auditor, metrics"),
        ("prodcer", None, "scope", "did you mean producer"),
        ("Admin", None, "scope", "did you mean admin"),
        ("x" * 100_000, None, "scope", "known are"),
        ("tenant", None, "tenant", "is missing"),
        ("tenant:", None, "tenant", "1 to 128 printable"),
        ("producer:", None, "tenant", "1 to 128 printable"),
        ("producer", "", "tenant", "1 to 128 printable"),
        ("producer:a b", None, "tenant", "1 to 128 printable"),
        ("admin:acme", None, "tenant", "must be left out"),
        ("admin", "acme", "tenant", "must be left out"),
        ("metrics", "acme", "tenant", "must be left out"),
        ("producer:acme", "glow", "tenant", "is another one"),
    ],
)
def test_what_is_no_scope_is_refused_with_a_sentence(text: str, tenant: str | None, field: str, message: str) -> None:
    with pytest.raises(ScopeProblem, match=message) as refusal:
        parse(text, tenant)
    assert refusal.value.field == field


@pytest.mark.parametrize("kind", [ScopeKind.ADMIN, ScopeKind.METRICS])
def test_a_scope_that_cannot_be_cannot_be_made(kind: ScopeKind) -> None:
    with pytest.raises(ScopeProblem):
        Scope(kind=kind, tenant="acme")
    with pytest.raises(ScopeProblem):
        Scope(kind=ScopeKind.TENANT)
