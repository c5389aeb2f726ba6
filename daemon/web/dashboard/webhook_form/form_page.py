"""The form of a webhook as it is shown: what was typed, what is wrong with it, and the types there are to choose."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from daemon.core.events import catalogue
from daemon.core.routing.route import Route
from daemon.web.access.auth import CALLER
from daemon.web.dashboard.form_data import FormData, FormErrors
from daemon.web.dashboard.rendering import render
from daemon.web.dashboard.webhook_form import type_picker
from daemon.web.dashboard.webhook_form.form_fields import LABELS, RouteTexts
from daemon.web.dashboard.webhook_form.previews import PreviewView
from daemon.web.dashboard.webhooks.history_rows import HistoryRow
from daemon.web.http.services import SERVICES
from eventstore.domain_events.catalogue import outline

_ADVANCED = ("payload", "sample_type", "sample_event", "headers", "rate_limit_per_second", "ordered")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPage:
    """One showing of the form. `given` has what was typed besides the texts, `once` stands for a sheet of a new
    webhook, `unsent` is what is wrong with a preview, and `both` are the fields that two changed at once.
    """

    texts: RouteTexts
    given: FormData = field(default_factory=lambda: FormData({}))
    route: Route | None = None
    copied: Route | None = None
    once: str = ""
    form_errors: FormErrors = field(default_factory=FormErrors)
    unsent: FormErrors = field(default_factory=FormErrors)
    shown: PreviewView | None = None
    meanwhile: tuple[HistoryRow, ...] = ()
    both: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """True if the advanced settings are to be seen: one is set, or wrong, or somebody looks at a preview."""
        fields = {problem.field.partition(".")[0] for problem in (*self.form_errors, *self.unsent)}
        return self.texts.is_advanced or self.shown is not None or not fields.isdisjoint(_ADVANCED)


async def answer(request: web.Request, sheet: FormPage, *, status: int = 200) -> web.Response:
    """The page with the form. What was seen in events may be another tenant's: a merchant chooses of the catalogue."""
    listed = await outline(
        request.app[SERVICES].database,
        characters=type_picker.DESCRIPTION_CHARACTERS + 1,
        with_seen=request[CALLER].tenant is None,
    )
    texts, given = sheet.texts, sheet.given
    find = given.one("intent").partition(":")[2] or given.one("find")
    picker = type_picker.picker(listed, texts.event_types, find=find)
    sample = given.one("sample_type") or next(iter(catalogue.chosen(picker.samples, frozenset(texts.patterns))), "")
    return render(
        request,
        "webhooks/form.html",
        status=status,
        sheet=sheet,
        picker=picker,
        labels=LABELS,
        both=[label for name, label in LABELS.items() if name.rpartition(".")[2] in sheet.both],
        sample_type=sample,
        sample_event=given.one("sample_event"),
        reason=given.one("reason"),
    )
