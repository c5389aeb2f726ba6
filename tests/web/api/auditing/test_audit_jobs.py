"""POST /v1/audits and GET /v1/audits/{id}: an audit runs beside the requests, and every process tells how it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

import daemon.audit
from daemon.audit import pages
from daemon.audit.judging import Judging
from daemon.audit.pages import AuditPage
from daemon.credentials.keys import Vault
from daemon.web.service.auditing import audit_jobs
from eventstore.postgres.errors import StoreUnavailable
from tests.support.audit.seals import seal
from tests.support.rows.audits import deliver, pass_over, tamper
from tests.support.web.application import App
from tests.support.web.application import app as app_of
from tests.support.web.evaluator import evaluator_of
from tests.support.web.tokens import bearer, token

TOKEN = "hl_admin_0123456789abcdef0123456789abcdef"

_BEGUN = """
INSERT INTO hookledger.audit_job (id, actor, beat_at) VALUES ($1, 'admin', clock_timestamp() - $2 * interval '1 s')
"""


async def begin(app: App, body: dict[str, Any] | None = None, **more: Any) -> str:
    """The path of an audit that was begun."""
    answer = await app.ask("POST", "/v1/audits", body or {}, **more)
    assert (answer.status, answer.json["state"]) == (202, "running"), answer.text
    assert answer.headers["Location"] == f"/v1/audits/{answer.json['id']}"
    return answer.headers["Location"]


async def until(app: App, path: str, **wanted: object) -> dict[str, Any]:
    """The audit, as the operator sees it, once it is so."""
    async with asyncio.timeout(60):
        while True:
            answer = await app.ask("GET", path, headers=bearer(TOKEN) if app.services.config.server.admin_token else {})
            found: dict[str, Any] = answer.json
            if {name: found[name] for name in wanted} == wanted:
                return found
            assert found["state"] == "running", found
            await asyncio.sleep(0.005)


class Held:
    """Lets an audit judge its first page only, until it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.holds = asyncio.Event()
        self.judged = 0

    async def wait(self) -> None:
        self.judged += 1
        if self.judged > 1:
            self.holds.set()
            await self.released.wait()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Pages of one event, and beats all the time."""
    held, judge = Held(), Judging.judge

    async def slowly(self: Judging, page: AuditPage, start: datetime) -> None:
        await held.wait()
        await judge(self, page, start)

    monkeypatch.setattr(pages, "PAGE_EVENTS", 1)
    monkeypatch.setattr(audit_jobs, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(Judging, "judge", slowly)
    yield held
    held.released.set()


async def test_an_audit_of_a_clean_log_finds_nothing(app: App) -> None:
    await app.route()
    await deliver(app, "e1")
    await seal(app.database)
    found = await until(app, await begin(app), state="done")
    assert found["findings"] == found["gaps"] == []
    assert (found["found"], found["detail"]) == (0, None)
    assert (found["events"], found["actor"], found["tenant"]) == (1, "admin", None)
    assert found["created_at"] < found["ended_at"]
    assert found["reached"] < found["ended_at"]


async def test_the_same_key_once_more_finds_the_audit_that_it_began(empty_url: str) -> None:
    async with app_of(empty_url, server__admin_token=TOKEN) as app:
        key = {"Idempotency-Key": "an audit"}
        mine, theirs = [bearer(await token(app.database, scope)) | key for scope in ("auditor:acme", "auditor:globex")]
        body = {"from": "2026-11-23T00:00:00Z"}
        first, *same = await asyncio.gather(*(begin(app, body, headers=mine) for _ in range(8)))
        assert set(same) == {first}
        await until(app, first, state="done")
        again = await app.ask("POST", "/v1/audits", body, headers=mine)
        assert (again.status, again.json["state"], again.headers["Location"]) == (202, "done", first)
        other = await app.ask("POST", "/v1/audits", {"from": "2026-11-24T00:00:00Z"}, headers=mine)
        assert other.status == 409
        assert "this Idempotency-Key was used for another command" in other.json["detail"]
        assert await begin(app, body, headers=theirs) != first
        assert (await app.ask("POST", "/v1/audits", body, headers=mine | {"Idempotency-Key": "é"})).status == 400


async def test_heavy_filters_are_left_to_the_evaluation_process(app: App) -> None:
    """A tenant may have a thousand for each event: an audit, which others ask for, would hold everybody up."""
    for number in range(1, 4):
        await app.route(payload={"filter": f"length(data.object.l[?@ > `{number}`]) > `0`"})
    for event_id, count, turns in (("e1", 5, []), ("e2", 800, ["acme"])):
        await pass_over(app, event_id, {"l": [1] * count})
        found = await until(app, await begin(app), state="done")
        assert (found["findings"], found["events"]) == ([], int(event_id[1:]))
        assert evaluator_of(app).turns == turns


async def test_a_tampered_outcome_is_found_with_its_sentence(app: App) -> None:
    await app.route()
    await deliver(app, "e1")
    await seal(app.database)
    await tamper(app)
    found = await until(app, await begin(app), state="done")
    assert found["found"] == len(found["findings"]) == 2
    of_seal, of_decision = found["findings"]
    assert (of_seal["kind"], of_seal["table"], of_seal["key"]) == ("altered", "attempt", "seal 1")
    assert (of_decision["kind"], of_decision["event"], of_decision["tenant"]) == ("unexplained", "e1", "acme")
    assert "delivered does not go with status 500" in of_decision["detail"]


async def test_an_audit_of_one_tenant_leaves_the_seals_out(app: App) -> None:
    await app.route()
    await deliver(app, "e1")
    await seal(app.database)
    await tamper(app)
    found = await until(app, await begin(app, {"tenant": "acme"}), state="done")
    assert [each["kind"] for each in found["findings"]] == ["unexplained"]
    assert (await until(app, await begin(app, {"tenant": "globex"}), state="done"))["found"] == 0


async def test_a_period_bounds_an_audit_and_an_empty_one_says_so(app: App) -> None:
    await app.route()
    await deliver(app, "e1")
    body = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00+01:00"}
    found = await until(app, await begin(app, body), state="done")
    assert (found["from"], found["to"]) == ("2020-01-01T00:00:00.000000Z", "2020-01-01T23:00:00.000000Z")
    assert (found["events"], found["gaps"]) == (0, ["no event of this period was judged"])


async def test_a_period_from_the_first_time_to_the_last_is_all_that_is_kept(app: App) -> None:
    await app.route()
    await deliver(app, "e1")
    body = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z"}
    assert (await until(app, await begin(app, body), state="done"))["events"] == 1
    assert (await app.ask("GET", "/operator/audits")).status == 200


async def test_another_process_tells_how_far_an_audit_is(app: App, empty_url: str, held: Held) -> None:
    await app.route()
    for number in range(2):
        await deliver(app, f"e{number}")
    path = await begin(app)
    async with app_of(empty_url) as other:
        found = await until(other, path, events=1)
        assert (found["state"], found["ended_at"]) == ("running", None)
        assert found["reached"] is not None
        held.released.set()
        assert (await until(other, path, state="done"))["events"] == 2


async def test_an_audit_whose_process_died_is_told(app: App) -> None:
    for seconds, state, detail in (
        (60, "failed", "the daemon that ran it ended: ask for it again"),
        (0, "running", None),
    ):
        job = uuid4()
        await app.rows(_BEGUN, job, seconds)
        found = (await app.ask("GET", f"/v1/audits/{job}")).json
        assert (found["state"], found["detail"]) == (state, detail)


async def test_an_audit_fails_when_its_daemon_stops(app: App, empty_url: str, held: Held) -> None:
    await app.route()
    for number in range(2):
        await deliver(app, f"e{number}")
    async with app_of(empty_url) as stopping:
        paths = [await begin(stopping) for _ in range(2)]
        await until(stopping, paths[0], events=1)
        await asyncio.wait_for(held.holds.wait(), 60)
    for path in paths:
        found = (await app.ask("GET", path)).json
        assert found["state"] == "failed"
        assert found["detail"] == "the daemon that ran it was stopped: ask for it again"
    assert held.judged == 2


async def test_an_audit_of_a_log_that_is_not_whole_fails_with_the_reason(app: App) -> None:
    await app.route()
    async with app.database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE hookledger.route_event SET actor = 'mallory'")
    found = await until(app, await begin(app), state="failed")
    assert "position 1" in found["detail"]


async def test_an_audit_that_lost_its_database_does_not_say_where_that_is(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_arguments: object, **_more: object) -> None:
        raise StoreUnavailable("PostgreSQL at 10.0.0.3:5432 did not answer in time")

    monkeypatch.setattr(daemon.audit, "audit", away)
    found = await until(app, await begin(app), state="failed")
    assert found["detail"] == "the database did not answer: ask for it again"


async def test_one_audit_runs_one_waits_and_more_are_refused(app: App, held: Held) -> None:
    await app.route()
    for number in range(2):
        await deliver(app, f"e{number}")
    paths = [await begin(app) for _ in range(2)]
    await until(app, paths[0], events=1)
    await asyncio.wait_for(held.holds.wait(), 60)
    refused = await app.ask("POST", "/v1/audits", {})
    assert (refused.status, refused.headers["Retry-After"]) == (503, "60")
    assert held.judged == 2
    held.released.set()
    for path in paths:
        await until(app, path, state="done")
    await until(app, await begin(app), state="done")


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"from": "yesterday"}, "from", "RFC 3339"),
        ({"to": 5}, "to", "must be a text"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}, "to", "must be later than from"),
        ({"tenant": "a b"}, "tenant", "printable ASCII"),
        ({"tenant": ""}, "tenant", "printable ASCII"),
        ({"tenant": 5}, "tenant", "must be a text"),
        ({"until": "2026-01-02T00:00:00Z"}, "until", "is not a field of this request"),
    ],
)
async def test_wrong_bodies_are_refused(app: App, body: dict[str, object], field: str, message: str) -> None:
    answer = await app.ask("POST", "/v1/audits", body)
    assert (answer.status, list(answer.errors)) == (422, [field])
    assert message in answer.errors[field]
    assert await app.rows("SELECT FROM hookledger.audit_job") == []


@pytest.mark.parametrize("job", [str(UUID(int=7)), "x", "%00"])
async def test_an_audit_that_does_not_exist_is_not_found(app: App, job: str) -> None:
    answer = await app.ask("GET", f"/v1/audits/{job}")
    assert (answer.status, answer.json["detail"]) == (404, "there is no such audit")


async def test_an_auditor_may_and_who_has_only_a_tenant_may_not(empty_url: str) -> None:
    async with app_of(empty_url, server__admin_token=TOKEN) as opened:
        path = await begin(opened, headers=bearer(await token(opened.database, "auditor")))
        await until(opened, path, state="done")
        for scope in ("tenant:acme", "producer", "metrics"):
            headers = bearer(await token(opened.database, scope))
            for method, place in (("POST", "/v1/audits"), ("GET", path)):
                assert (await opened.ask(method, place, headers=headers)).status == 403


async def test_an_auditor_of_a_tenant_audits_that_one_and_sees_no_other(empty_url: str) -> None:
    async with app_of(empty_url, server__admin_token=TOKEN) as opened:
        of_acme, of_all = bearer(await token(opened.database, "auditor:acme")), bearer(TOKEN)
        refused = await opened.ask("POST", "/v1/audits", {"tenant": "globex"}, headers=of_acme)
        assert (refused.status, list(refused.errors)) == (422, ["tenant"])
        for body in ({"tenant": "globex"}, {}):
            foreign = await begin(opened, body, headers=of_all)
            await until(opened, foreign, state="done")
            answer = await opened.ask("GET", foreign, headers=of_acme)
            assert (answer.status, answer.json["detail"]) == (404, "there is no such audit")
        # A fault that belongs to no tenant is counted, and shown to the operator only.
        await opened.rows("UPDATE hookledger.checkpoint SET tick = 1000 WHERE shard = 0")
        own = await begin(opened, headers=of_acme)
        whole = await until(opened, own, state="done")
        shown = (await opened.ask("GET", own, headers=of_acme)).json
        assert (shown["tenant"], shown["found"], shown["findings"]) == ("acme", 1, [])
        assert [each["table"] for each in whole["findings"]] == ["checkpoint"]


async def test_auditors_of_tenants_leave_a_place_to_the_operator(empty_url: str, held: Held) -> None:
    async with app_of(empty_url, server__admin_token=TOKEN) as opened:
        of_acme, of_globex = [bearer(await token(opened.database, f"auditor:{name}")) for name in ("acme", "globex")]
        held.judged = 1
        body = {"tenant": "acme", "type": "order.create", "data": {}}
        assert (await opened.ask("POST", "/v1/events", body, headers=bearer(TOKEN))).status == 202
        first = await begin(opened, headers=of_acme)
        assert (await opened.ask("POST", "/v1/audits", {}, headers=of_globex)).status == 503
        second = await begin(opened, headers=bearer(TOKEN))
        held.released.set()
        for path in (first, second):
            await until(opened, path, state="done")


# What somebody with the database makes of a result that has a finding.
FORGERIES = {
    "id": "gen_random_uuid()", "tenant": "'acme'", "since": "now()", "until": "now()", "actor": "'other'", "state": "'failed'",
    "created_at": "created_at - interval '1 day'", "ended_at": "ended_at + interval '1 day'", "events": "events + 1",
    "reached": "now()", "found": "0", "findings": "'[]'", "gaps": "'[\"x\"]'", "detail": "'x'", "signature": "NULL",
}  # fmt: skip
# It says nothing about the result.
BESIDE = {"beat_at"}


async def test_a_result_that_somebody_has_changed_is_none(app: App) -> None:
    """An auditor who asks the API believes what stands in its table."""
    await app.route()
    await deliver(app, "e1")
    await tamper(app)
    path = await begin(app)
    true = await until(app, path, state="done")
    assert true["found"] > 0
    (kept,) = await app.rows("SELECT * FROM hookledger.audit_job")
    assert set(kept.keys()) - BESIDE == set(FORGERIES)
    for column, value in FORGERIES.items():
        (forged,) = await app.rows(f"UPDATE hookledger.audit_job SET {column} = {value} RETURNING id")
        found = (await app.ask("GET", f"/v1/audits/{forged['id']}")).json
        assert (found["state"], found["findings"], found["gaps"]) == ("failed", [], []), column
        assert found["detail"].startswith("this result is not signed by a key of ours"), column
        await app.rows(f"UPDATE hookledger.audit_job SET {column} = $1", kept[column])
        assert (await app.ask("GET", path)).json == true
    await app.rows("UPDATE hookledger.audit_job SET findings = '[', gaps = 'x'")
    assert (await app.ask("GET", path)).json["state"] == "failed"


# What a trigger makes of a result as it is stored, and what somebody makes of an audit while it runs.
_TRIGGER = """
CREATE FUNCTION public.clean() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF new.state <> 'running' THEN new.findings := '[]'; new.found := 0; new.gaps := '[]'; END IF; RETURN new; END $$
"""


_LATER = """
CREATE FUNCTION public.clean() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN new.{column} := new.{column} + interval '10 days'; RETURN new; END $$
"""


@pytest.mark.parametrize(
    "function",
    [_TRIGGER, _LATER.format(column="ended_at"), _LATER.format(column="created_at")],
    ids=["without findings", "ended later", "begun later"],
)
async def test_a_result_that_is_changed_while_it_is_stored_is_none(app: App, function: str) -> None:
    """A daemon must not sign what the table made of its result, nor one for a day to come."""
    await app.route()
    await deliver(app, "e1")
    if function == _TRIGGER:
        await tamper(app)
    await app.rows(function)
    when, which = ("INSERT", "true") if "created_at" in function else ("UPDATE", "old.state <> new.state")
    await app.rows(
        f"CREATE TRIGGER clean BEFORE {when} ON hookledger.audit_job FOR EACH ROW WHEN ({which}) "
        "EXECUTE FUNCTION public.clean()"
    )
    try:
        found = await until(app, await begin(app), state="failed")
    finally:  # other tests have the same database
        await app.rows("DROP FUNCTION public.clean() CASCADE")
    assert found["detail"].startswith("this result is not signed by a key of ours")


ASKED = {
    "tenant": "'globex'",
    "since": "now() - interval '1 h'",
    "until": "now()",
    "actor": "'boss'",
    "created_at": "now()",
}


@pytest.mark.parametrize("column", ASKED)
async def test_an_audit_of_which_something_else_is_asked_while_it_runs_has_no_result(
    app: App, held: Held, column: str
) -> None:
    await app.route()
    for event in ("e1", "e2"):
        await deliver(app, event)
    path = await begin(app)
    await held.holds.wait()
    await app.rows(f"UPDATE hookledger.audit_job SET {column} = {ASKED[column]}")
    held.released.set()
    found = await until(app, path, state="failed")
    assert found["detail"].startswith("this result is not signed by a key of ours")


async def test_a_result_is_known_by_the_keys_of_before_an_exchange(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    await app.route()
    await deliver(app, "e1")
    await seal(app.database)
    path = await begin(app)
    await until(app, path, state="done")
    for master_keys, state in (([b"n" * 32, b"k" * 32], "done"), ([b"n" * 32], "failed")):
        monkeypatch.setattr(app.services.keychain, "_vault", Vault(master_keys))
        assert (await app.ask("GET", path)).json["state"] == state
