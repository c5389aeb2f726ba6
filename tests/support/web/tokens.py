"""Tokens for tests, created as the command line creates them."""

from __future__ import annotations

from datetime import UTC, datetime

from daemon.core.drafts.token_draft import TokenDraft, check
from daemon.credentials import tokens
from eventstore.postgres.connect import Database
from tests.support.rows.credentials import MACS


async def token(database: Database, scope: str, *, name: str = "", expires: str | None = None) -> str:
    """The text of a new token."""
    draft = check(scope=scope, tenant=None, name=name, expires=expires, now=datetime.now(UTC))
    assert isinstance(draft, TokenDraft), draft
    _, text = await tokens.create(database, draft, created_by="test", macs=MACS)
    return text


def bearer(text: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {text}"}


def id_in(text: str) -> str:
    """The id in a token's text."""
    return text.split("_")[2]
