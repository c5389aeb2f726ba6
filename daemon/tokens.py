"""API tokens: `hl_<kind>_<id>_<secret>`, made once, shown once, known here by their SHA-256.

A slow hash would protect passwords; a secret of 256 random bits needs none. What was found of a token is remembered for
LIFE_SECONDS, so that publishing does not ask the database for every event: a token that is revoked, or has expired, is
dead in every process after that.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from weakref import WeakValueDictionary

from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.core.drafts.token_draft import TokenDraft
from eventstore.access import tokens
from eventstore.access.tokens import NewToken, Proof, Token
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable

LIFE_SECONDS = 2.0

# For all that is asked about one token; with it, a producer has an answer within 3 s of a database that has none.
ASK_SECONDS = 2.0

MAX_REMEMBERED = 10_000

_ID = re.compile("[0-9a-f]{12}")
_TEXT = re.compile(f"hl_[a-z]+_(?P<id>{_ID.pattern})_[0-9a-f]{{64}}")


class TokenRefusal(StrEnum):
    """Why a token opens nothing, in words for its holder. Whoever lacks the secret learns nothing of the token."""

    UNKNOWN = "this token is not valid"
    REVOKED = "this token was revoked"
    EXPIRED = "this token has expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A token that is good now."""

    id: str
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    proof: Proof
    until: float


async def create(database: Database, draft: TokenDraft, *, created_by: str) -> tuple[Token, str]:
    """A new token as it is listed, and its text. Raises StoreUnavailable."""
    token_id = secrets.token_hex(6)
    text = f"hl_{draft.scope.kind}_{token_id}_{secrets.token_hex(32)}"
    new = NewToken(
        id=token_id,
        kind=draft.scope.kind,
        tenant=draft.scope.tenant,
        name=draft.name,
        hash=_hash(text),
        created_by=created_by,
        expires_at=draft.expires_at,
    )
    return await tokens.add(database, new), text


def id_of(text: str) -> str | None:
    """The id in a token's text, None if it is no such text. It is no secret."""
    found = _TEXT.fullmatch(text)
    return None if found is None else found["id"]


def is_id(text: str) -> bool:
    """True for what could be a token's id."""
    return _ID.fullmatch(text) is not None


class Tokens:
    """`verify` says what a token is for. `clock` is monotonic, in seconds."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def verify(self, text: str) -> Verified | TokenRefusal:
        """The token, or why it is none. Raises StoreUnavailable."""
        token_id = id_of(text)
        if token_id is None:
            return TokenRefusal.UNKNOWN
        known = self._known.get(token_id)
        if known is None or known.until <= self._clock():
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    return await self._ask(token_id, _hash(text))
            except TimeoutError as error:
                raise StoreUnavailable("the token could not be looked up in time") from error
        return _judged(token_id, _hash(text), known.proof)

    def forget(self, token_id: str) -> None:
        """Asks anew when the token is used next: it has just been revoked here."""
        self._known.pop(token_id, None)

    async def _ask(self, token_id: str, given: bytes) -> Verified | TokenRefusal:
        """The same by the database. Of many who ask for one token at once the first asks for all."""
        async with self._turns.setdefault(token_id, asyncio.Lock()):
            known = self._known.get(token_id)
            if known is not None and known.until > self._clock():
                return _judged(token_id, given, known.proof)
            asked_at = self._clock()
            proof = await tokens.proof(self._database, token_id, seconds=ASK_SECONDS)
            if proof is None:
                return TokenRefusal.UNKNOWN
            verdict = _judged(token_id, given, proof)
            if isinstance(verdict, Verified) and proof.is_unused:
                await tokens.note_use(self._database, token_id, seconds=ASK_SECONDS)
            self._remember(token_id, proof, asked_at)
            return verdict

    def _remember(self, token_id: str, proof: Proof, asked_at: float) -> None:
        life = LIFE_SECONDS if proof.seconds_left is None else min(LIFE_SECONDS, proof.seconds_left)
        self._known.pop(token_id, None)  # so that the first one is always the oldest
        self._known[token_id] = _Known(proof=proof, until=asked_at + life)
        if len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]


def _judged(token_id: str, given: bytes, proof: Proof) -> Verified | TokenRefusal:
    if not hmac.compare_digest(given, proof.hash):
        return TokenRefusal.UNKNOWN
    if proof.is_revoked:
        return TokenRefusal.REVOKED
    if proof.seconds_left is not None and proof.seconds_left <= 0:
        return TokenRefusal.EXPIRED
    return Verified(id=token_id, scope=Scope(kind=ScopeKind(proof.kind), tenant=proof.tenant))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
