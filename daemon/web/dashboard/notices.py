"""What a page says at its head after something was done: the sentence that `?done=` names, and no other."""

from __future__ import annotations

from collections.abc import Mapping

NOTICES: Mapping[str, str] = {
    "created": "The webhook is created and active: events from now on are sent to it.",
    "created_disabled": "The webhook is created, and disabled: enable it when your receiver is ready.",
    "edited": "The changes are saved. What is sent from now on is sent by them.",
    "unchanged": "Nothing was different, so nothing was changed.",
    "deleted": "The webhook is deleted. Its history stays in Activity.",
}
