"""Shows the form of a webhook: the texts of its fields, the errors, and the event types to choose from."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from daemon.core.events import catalogue
from daemon.core.routing.route import Route
from daemon.web.access.auth import CALLER
from daemon.web.access.queries import query_database
from daemon.web.dashboard.form_data import FormData, FormErrors
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.webhook_form import type_picker
from daemon.web.dashboard.webhook_form.form_fields import LABELS, RouteTexts
from daemon.web.dashboard.webhook_form.previews import PreviewView
from daemon.web.dashboard.webhooks.history_rows import HistoryRow
from daemon.web.service.events.offered_types import offered
from eventstore.domain_events.catalogue import outline

_ADVANCED = (
    *("payload", "sample_type", "sample_event", "headers", "rate_limit_per_second", "ordered", "verification_key"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPage:
    """What the page shows. `form` has the fields that are not `texts`; `form_id` is set for a new webhook.

    After an edit conflict `concurrent_changes` are the events since the form was opened, and `conflicts` the fields
    that both people changed.
    """

    texts: RouteTexts
    form: FormData = field(default_factory=lambda: FormData({}))
    route: Route | None = None
    copied: Route | None = None
    form_id: str = ""
    form_errors: FormErrors = field(default_factory=FormErrors)
    preview_errors: FormErrors = field(default_factory=FormErrors)
    preview: PreviewView | None = None
    concurrent_changes: tuple[HistoryRow, ...] = ()
    conflicts: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """True if the advanced settings are expanded: one of them is set or wrong, or there is a preview."""
        fields = {problem.field.partition(".")[0] for problem in (*self.form_errors, *self.preview_errors)}
        return self.texts.is_advanced or self.preview is not None or not fields.isdisjoint(_ADVANCED)


async def show(request: web.Request, form_page: FormPage, *, status: int = 200) -> web.Response:
    """The page with the form. A caller who is bound to a tenant chooses from the catalogue only: types that were seen
    in events may be another tenant's.
    """
    whole = await outline(
        query_database(request),
        characters=type_picker.DESCRIPTION_CHARACTERS + 1,
        with_seen=request[CALLER].tenant is None,
    )
    listed = offered(request, request.match_info["tenant"], whole)
    texts, form = form_page.texts, form_page.form
    intent, _, group = form.one("intent").partition(":")
    chosen = texts.event_types
    if intent == "single":
        chosen = type_picker.singly(listed, chosen, group)
    find = group if intent == "find" and group else form.one("find")
    picker = type_picker.picker(listed, chosen, find=find)
    sample = form.one("sample_type") or next(
        iter(catalogue.subscribed_types(picker.samples, frozenset(texts.patterns))), ""
    )
    return render(
        request,
        "webhook_form/form.html",
        status=status,
        form_page=form_page,
        picker=picker,
        labels=LABELS,
        single_group=group if intent == "single" else None,
        conflict_labels=[label for name, label in LABELS.items() if name.rpartition(".")[2] in form_page.conflicts],
        sample_type=sample,
        sample_event=form.one("sample_event"),
        reason=form.one("reason"),
    )
