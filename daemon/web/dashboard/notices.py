"""What a page says at its head after something was done: the sentence that `?done=` names, and no other."""

from __future__ import annotations

from collections.abc import Mapping

NOTICES: Mapping[str, str] = {
    "created": "The webhook is created and active: events from now on are sent to it.",
    "created_disabled": "The webhook is created, and disabled: enable it when your receiver is ready.",
    "edited": "The changes are saved. What is sent from now on is sent by them.",
    "unchanged": "Nothing was different, so nothing was changed.",
    "deleted": "The webhook is deleted. Its history stays in Activity.",
    "token_revoked": "The token is revoked: nothing it is shown to lets it in any more.",
    "type_added": "The event type is in the catalogue. Merchants can subscribe to it.",
    "type_saved": "The event type is saved.",
    "type_removed": "The event type is no longer in the catalogue.",
    "types_replaced": "The catalogue is the list that you gave.",
    "replay_cancelled": "The replay is cancelled: what was not sent yet stays as it was.",
    "disabled": "The webhook is disabled. Nothing is sent to it from now on.",
    "revoked": "The old key is revoked: only the present one signs from now on.",
    "no_old_key": "There was no old key any more, so nothing had to be revoked.",
    "rotated": "The key is rotated. Put the new one in place within 24 hours.",
    "retried": "It is in line to be sent again now. Refresh in a moment to see the answer.",
}
