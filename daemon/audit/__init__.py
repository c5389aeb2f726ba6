"""The read side of both logs: rebuild the routes, explain one delivery, audit all of a period.

Nothing here depends on the memory of a running daemon. A decision is recomputed from the route log and the tick that
read the event, by the functions that made it live. Then it is compared with the record. That comparison is the proof.
"""

from daemon.audit.comparing import SharedLoop, audit
from daemon.audit.explaining import AmbiguousEvent, Explanation, UnknownEvent, explain, explain_event
from daemon.audit.faults.pair_faults import DeliverySchedule
from daemon.audit.findings import AuditFinding, AuditReport, FindingKind
from daemon.audit.pages import BEGINNING, END
from daemon.audit.parts.parts import AuditPartFailed
from daemon.route_state import Rebuilt, rebuild

__all__ = [
    "BEGINNING",
    "END",
    "AmbiguousEvent",
    "AuditFinding",
    "AuditPartFailed",
    "AuditReport",
    "DeliverySchedule",
    "Explanation",
    "FindingKind",
    "Rebuilt",
    "SharedLoop",
    "UnknownEvent",
    "audit",
    "explain",
    "explain_event",
    "rebuild",
]
