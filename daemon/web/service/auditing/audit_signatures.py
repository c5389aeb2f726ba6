"""The signature of what an audit found: by it a result that a daemon of ours wrote is known from one that somebody else
wrote into the table, as a fault that was taken out of it.
"""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

from daemon.core.sealing.canonical import encode, text_of
from daemon.core.sealing.head import SealKey, is_signed
from daemon.web.http.services import SERVICES
from eventstore.progress.audit_jobs import AuditJobSummary


def signature(job: AuditJobSummary, key: SealKey) -> bytes:
    """The signature of an audit that has ended."""
    return key.sign(_text(job))


def is_signed_by(job: AuditJobSummary, keys: Collection[bytes]) -> bool:
    """True if an audit that has ended is as one of these public keys has signed it."""
    text = _text(job)
    return job.signature is not None and any(is_signed(key, text, job.signature) for key in keys)


def public_keys(request: web.Request) -> tuple[bytes, ...]:
    """The keys by which results are known: those of seals."""
    services = request.app[SERVICES]
    return (*(key.public for key in services.keychain.seal_keys), *services.config.seal.former_public_keys)


def _text(job: AuditJobSummary) -> str:
    asked = (str(job.id), job.tenant, job.since, job.until, job.actor, job.created_at)
    found = (job.state, job.ended_at, job.events, job.reached, job.found, job.findings_sha256, job.gaps, job.detail)
    return f"hookledger audit\n{encode(map(text_of, (*asked, *found))).decode()}"
