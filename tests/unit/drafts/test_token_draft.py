"""A token's draft: expiry, name and scope, and all problems at once."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.core.drafts.token_draft import TokenDraft, check, expiry

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("30d", NOW + timedelta(days=30)),
        ("1h30m", NOW + timedelta(minutes=90)),
        ("2w", NOW + timedelta(weeks=2)),
        ("45s", NOW + timedelta(seconds=45)),
        ("2027-01-31T08:00:00Z", datetime(2027, 1, 31, 8, tzinfo=UTC)),
        ("2027-01-31T08:00:00+02:00", datetime(2027, 1, 31, 6, tzinfo=UTC)),
        ("2027-01-31t08:00:00z", datetime(2027, 1, 31, 8, tzinfo=UTC)),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_a_span_a_time_or_a_date(text: str, at: datetime) -> None:
    assert expiry(text, NOW) == at


@pytest.mark.parametrize(
    "text",
    ["", "d", "30", "30 d", "-1d", "1.5d", "0d", "30D", "never", "tomorrow", "9" * 9 + "w", "9" * 400 + "d",
     "2027-01-31T08:00:00", "2027-02-30", "10000-01-01", "٣d", "2027-01-31T08:00:00Z\0"],
)  # fmt: skip
def test_what_is_no_expiry_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time like 2027-01-31T08:00:00Z, a date, or a span like 30d"):
        expiry(text, NOW)


@pytest.mark.parametrize("text", ["2026-11-23T08:00:00Z", "2026-11-23", "1999-01-01T00:00:00Z"])
def test_a_token_cannot_expire_before_it_is_made(text: str) -> None:
    with pytest.raises(ValueError, match="is over already"):
        expiry(text, NOW)


def test_a_valid_draft_has_its_scope_name_and_expiry() -> None:
    assert check(scope="producer", tenant="acme", name="Shop", expires="1d", now=NOW) == TokenDraft(
        scope=Scope(kind=ScopeKind.PRODUCER, tenant="acme"), name="Shop", expires_at=NOW + timedelta(days=1)
    )
    assert check(scope="admin", tenant=None, name="", expires=None, now=NOW) == TokenDraft(
        scope=Scope(kind=ScopeKind.ADMIN), name="", expires_at=None
    )


@pytest.mark.parametrize("name", ["x" * 201, "a\nb", "a\0", "\ud800"])
def test_all_problems_are_reported_at_once(name: str) -> None:
    problems = check(scope="tenant", tenant=None, name=name, expires="soon", now=NOW)
    assert isinstance(problems, tuple)
    assert {problem.field for problem in problems} == {"tenant", "expires", "name"}
