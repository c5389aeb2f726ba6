"""API tokens: `hl_<kind>_<id>_<secret>`, shown once on creation and stored as their SHA-256.

A slow hash protects passwords; a secret of 256 random bits does not need one. A row that was not made with the master
key is no token (eventstore/access/macs.py).

A token that was looked up is cached for CACHE_SECONDS, so that publishing does not query the database for every event.
A revoked or expired token is refused by every process after that time. Only a token for metrics that was valid when it
was last looked up is taken as long as PostgreSQL does not answer: operators need to see the daemon then most of all,
and the metrics name no customer.
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

from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.core.drafts.token_draft import TokenDraft
from eventstore.access import tokens
from eventstore.access.macs import CredentialMacs, CredentialTable, NotAuthentic
from eventstore.access.tokens import NewToken, Proof, Token
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable

CACHE_SECONDS = 2.0

# The deadline for all queries about one token. With it, a producer gets an answer within 3 s even if the database gives
# none.
LOOKUP_SECONDS = 2.0

MAX_CACHED = 10_000

_ID = re.compile("[0-9a-f]{12}")
_TEXT = re.compile(f"hl_[a-z]+_(?P<id>{_ID.pattern})_[0-9a-f]{{64}}")


class TokenRefusal(StrEnum):
    """Why a token is refused; the values are shown to its holder. A wrong secret is always UNKNOWN."""

    UNKNOWN = "this token is not valid"
    REVOKED = "this token was revoked"
    EXPIRED = "this token has expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A token that is valid now."""

    id: str
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class _CachedToken:
    proof: Proof
    looked_up_at: float
    until: float


async def create(database: Database, draft: TokenDraft, *, created_by: str, macs: CredentialMacs) -> tuple[Token, str]:
    """A new token as it is listed, and its text, which is not stored. Raises StoreUnavailable."""
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
    return await tokens.add(database, new, macs=macs), text


def id_of(text: str) -> str | None:
    """The id in a token's text, None if the text is no token. The id is no secret."""
    found = _TEXT.fullmatch(text)
    return None if found is None else found["id"]


def is_id(text: str) -> bool:
    """True if the text has the form of a token's id."""
    return _ID.fullmatch(text) is not None


class Tokens:
    """Verifies tokens and caches them. `macs` knows the rows that are ours, `clock` returns monotonic seconds."""

    def __init__(
        self, database: Database, *, macs: CredentialMacs, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._macs = macs
        self._clock = clock
        self._cache: dict[str, _CachedToken] = {}
        self._lookups: dict[str, asyncio.Future[Proof | None]] = {}

    async def verify(self, text: str) -> Verified | TokenRefusal:
        """The token, or why it is refused. Raises StoreUnavailable, and NotAuthentic if the text is that of a row which
        is not ours: its holder is told that there is no such token.
        """
        token_id = id_of(text)
        if token_id is None:
            return TokenRefusal.UNKNOWN
        cached = self._cache.get(token_id)
        if cached is None or cached.until <= self._clock():
            try:
                async with asyncio.timeout(LOOKUP_SECONDS):
                    return await self._look_up(token_id, _hash(text))
            except (TimeoutError, StoreUnavailable) as error:
                if cached is not None and self._still_shows_metrics(cached):
                    return _check_proof(token_id, _hash(text), cached.proof)
                if isinstance(error, StoreUnavailable):
                    raise
                raise StoreUnavailable("the token could not be looked up in time") from error
        return _check_proof(token_id, _hash(text), cached.proof)

    def forget(self, token_id: str) -> None:
        """Drops a token from the cache, after it was revoked in this process."""
        self._cache.pop(token_id, None)

    async def _look_up(self, token_id: str, given: bytes) -> Verified | TokenRefusal:
        """Verifies by the database. Concurrent callers with the same token share one query, and all hear its answer at
        once: a thousand who woke each other one by one would take longer than they may.
        """
        pending = self._lookups.get(token_id)
        while pending is not None:
            await asyncio.wait([pending])
            if not pending.cancelled():
                break
            pending = self._lookups.get(token_id)
        proof = await self._asked(token_id, given) if pending is None else pending.result()
        return TokenRefusal.UNKNOWN if proof is None else _check_proof(token_id, given, proof)

    async def _asked(self, token_id: str, given: bytes) -> Proof | None:
        """Asks the database for this caller and those who come meanwhile. Raises StoreUnavailable."""
        pending = self._lookups[token_id] = asyncio.get_running_loop().create_future()
        try:
            looked_up_at = self._clock()
            proof = await tokens.proof(self._database, token_id, macs=self._macs, seconds=LOOKUP_SECONDS)
            if proof is not None and proof.is_authentic:
                if proof.is_unused and isinstance(_check_proof(token_id, given, proof), Verified):
                    await tokens.note_use(self._database, token_id, seconds=LOOKUP_SECONDS)
                self._store(token_id, proof, looked_up_at)
        except Exception as error:
            pending.set_exception(error)
            pending.exception()  # there may be nobody else who hears it
            raise
        except BaseException:  # the caller has gone: another one asks
            pending.cancel()
            raise
        finally:
            del self._lookups[token_id]
        pending.set_result(proof)
        return proof

    def _still_shows_metrics(self, cached: _CachedToken) -> bool:
        left = cached.proof.seconds_left
        has_expired = left is not None and cached.looked_up_at + left <= self._clock()
        return cached.proof.kind == ScopeKind.METRICS and not has_expired

    def _store(self, token_id: str, proof: Proof, looked_up_at: float) -> None:
        seconds = CACHE_SECONDS if proof.seconds_left is None else min(CACHE_SECONDS, proof.seconds_left)
        self._cache.pop(token_id, None)  # so that the first entry is always the oldest
        self._cache[token_id] = _CachedToken(proof=proof, looked_up_at=looked_up_at, until=looked_up_at + seconds)
        if len(self._cache) > MAX_CACHED:
            del self._cache[next(iter(self._cache))]


def _check_proof(token_id: str, given: bytes, proof: Proof) -> Verified | TokenRefusal:
    if not hmac.compare_digest(given, proof.hash):
        return TokenRefusal.UNKNOWN
    if not proof.is_authentic:
        raise NotAuthentic(CredentialTable.TOKEN, token_id)
    if proof.is_revoked:
        return TokenRefusal.REVOKED
    if proof.seconds_left is not None and proof.seconds_left <= 0:
        return TokenRefusal.EXPIRED
    return Verified(id=token_id, scope=Scope(kind=ScopeKind(proof.kind), tenant=proof.tenant))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
