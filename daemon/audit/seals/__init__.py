"""The audit of seals: their chain, their signatures, the rows that they cover, and heads that were kept elsewhere."""

from daemon.audit.seals.anchors import Anchor, BadAnchors, parse_anchors
from daemon.audit.seals.auditing import audit_seals
from daemon.audit.seals.report import SealFinding, SealReport

__all__ = ["Anchor", "BadAnchors", "SealFinding", "SealReport", "audit_seals", "parse_anchors"]
