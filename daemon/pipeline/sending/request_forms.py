"""For each route what its requests have in common: made when the route is first sent to, and again when it changes.

The forms contain secrets. The keychain knows which secrets were used of late, and forgets the others. So all forms are
dropped whenever it does, and those in use are made anew of what it still has.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from daemon.core.routing.route import PayloadOptions, Route
from daemon.core.webhook.request import RequestForm, RequestOptions
from daemon.credentials.keys import Keychain

_FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RouteForm:
    """The form of a route's requests. `key_ids` are the keys that sign them, until one of these ends. If it is `plain`,
    their bodies have the events as published, without a snapshot.
    """

    route: Route
    request: RequestForm
    key_ids: str
    until: datetime
    is_plain: bool


class RequestForms:
    """`known` is on the hot path: a look-up and two comparisons."""

    def __init__(self, keychain: Keychain, options: RequestOptions) -> None:
        self._keychain = keychain
        self._options = options
        self._forms: dict[UUID, RouteForm] = {}
        keychain.on_aged.append(self._forms.clear)

    def known(self, route: Route, now: datetime) -> RouteForm | None:
        """The form of a route's requests now, if it was made before."""
        form = self._forms.get(route.id)
        return form if form is not None and form.route is route and now < form.until else None

    def of(self, route: Route, now: datetime) -> RouteForm | None:
        """The form of a route's requests now; None if the keychain must load its secrets first.

        Raises UnsendableHeader.
        """
        form = self.known(route, now)
        if form is not None:
            return form
        keys, custom = self._keychain.cached_keys(route, now), self._keychain.cached_headers(route)
        if keys is None or custom is None:
            return None
        valid = route.keys_at(now)
        form = self._forms[route.id] = RouteForm(
            route,
            RequestForm(custom=custom, keys=keys, request_options=self._options),
            ",".join(key.id for key in valid),
            min((key.valid_until for key in valid if key.valid_until is not None), default=_FOR_EVER),
            route.config.payload == PayloadOptions(),
        )
        return form
