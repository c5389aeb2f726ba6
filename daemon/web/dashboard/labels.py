"""The words for the fields of the form of a webhook."""

from __future__ import annotations

from collections.abc import Mapping

# In the order of the form.
LABELS: Mapping[str, str] = {
    "name": "Name",
    "target_url": "Target URL",
    "event_types": "Event types",
    "payload.snapshot": "Snapshot",
    "payload.filter": "Filter",
    "payload.transform": "Transform",
    "sample_type": "Example",
    "sample_event": "Pasted event",
    "headers": "Custom headers",
    "rate_limit_per_second": "Rate limit",
    "ordered": "Order",
    "reason": "Reason",
}
