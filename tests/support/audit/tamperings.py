"""Single changes to a history (tests/support/audit/history.py), and what an audit says of each.

A change is SQL by somebody for whom no trigger fires. `told` is a pattern that one of the findings matches:
`<kind> <table> (<key>): <what is wrong>`; or `error: …`, with which the audit ends.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tampering:
    name: str
    sql: str
    told: str


def _of_event(id: str) -> str:
    return f"seq = (SELECT e.seq FROM domain_event e WHERE e.id = '{id}')"


FIRST = "event_id = 'first'"
FLAKY_1 = "event_id = 'flaky' AND number = 1"
FLAKY_2 = "event_id = 'flaky' AND number = 2"
SUPPRESSED = "event_id = 'closed-0' AND number = 0"
LATE = _of_event("late-0")
STUCK = "route_id = (SELECT route_id FROM parked_range)"
HELD = "holder IS NOT NULL"
PACKED = f"{STUCK} AND flush = (SELECT min(flush) FROM parked)"
UNLIKE, UNSIGNED = "is not as somebody with the master key wrote it", "has no MAC: nobody with the master key wrote it"
_COPY = "at, seq, tick, route_id, event_time, started_at, shard, status_code, number, duration_ms, route_version, is_test, outcome, error, tenant, event_id, event_type, key_ids, response_head, response_body, delivery_key"


def _copied(where: str, **changes: str) -> str:
    values = ", ".join(changes.get(column, column) for column in _COPY.split(", "))
    return f"INSERT INTO attempt ({_COPY}) SELECT {values} FROM attempt WHERE {where}"


def _forged(where: str, id: str) -> str:
    """An outcome like another one, and of that event in every column."""
    of_event = {
        "seq": "seq",
        "tick": "tick_of(txid)",
        "event_time": "recorded_at",
        "event_type": "type",
        "event_id": "id",
    }
    return _copied(
        where, **{column: f"(SELECT {own} FROM domain_event WHERE id = '{id}')" for column, own in of_event.items()}
    )


def _attempt(name: str, change: str, told: str, where: str = FIRST) -> Tampering:
    return Tampering(f"attempt, {name}", f"UPDATE attempt SET {change} WHERE {where}", f"unexplained attempt .*{told}")


def _retry(name: str, change: str, told: str, where: str = LATE) -> Tampering:
    return Tampering(f"retry, {name}", f"UPDATE retry SET {change} WHERE {where}", told)


def _event(name: str, change: str, told: str, id: str = "first") -> Tampering:
    return Tampering(f"domain_event, {name}", f"UPDATE domain_event SET {change} WHERE id = '{id}'", told)


# A tick before which no route changed, and one before which a route did.
_AFTER_NO_CHANGE = (
    "tick = (SELECT max(t.tick) FROM tick t JOIN tick p ON p.tick = t.tick - 1 WHERE t.route_pos = p.route_pos)"
)
_AFTER_A_CHANGE = (
    "tick = (SELECT max(t.tick) FROM tick t JOIN tick p ON p.tick = t.tick - 1 WHERE t.route_pos > p.route_pos)"
)


def _tick(name: str, change: str, told: str, where: str = "tick = 3") -> Tampering:
    return Tampering(f"tick, {name}", f"UPDATE tick SET {change} WHERE {where}", told)


def _log(name: str, change: str, told: str = "is not what was written", where: str = "pos = 2") -> Tampering:
    return Tampering(
        f"route_event, {name}", f"UPDATE route_event SET {change} WHERE {where}", f"error: position .*{told}"
    )


# fmt: off
TAMPERINGS = [
    # ---- outcomes: each column
    _attempt("tick", "tick = tick + 1", r"tick is \d+, and that of the event is \d+"),
    _attempt("event_time", "event_time = event_time + interval '1 microsecond'", "event_time is .*, and that of the event is"),
    _attempt("shard", "shard = 15 - shard", "shard is"),
    _attempt("is_test", "is_test = true", "is_test is True, and that of the event is False"),
    _attempt("tenant", "tenant = 'globex'", "tenant is globex, and that of the event is acme"),
    _attempt("event_id", "event_id = 'second'", "event_id is second, and that of the event is first"),
    _attempt("event_type", "event_type = 'order.update'", "event_type is order.update"),
    _attempt("seq of another event", "seq = (SELECT seq FROM domain_event WHERE id = 'past')", "(tick|event_time) is .*, and that of the event is"),
    _attempt("seq of no event", "seq = 99999", r"seq 99999\): there is no such event"),
    _attempt("route of another event type", "route_id = (SELECT route_id FROM attempt WHERE event_id = 'bye')", "the event is of type order.create, to which the route never subscribed"),
    _attempt("route of another tenant", "route_id = (SELECT route_id FROM attempt WHERE event_id = 'foreign')", "the event is one of tenant acme, and the route one of globex"),
    _attempt("no route", "route_id = gen_random_uuid()", "the route log has no such route"),
    _attempt("started_at before the event", "started_at = started_at - interval '2 days'", "before the event was recorded"),
    _attempt("started_at after its record", "started_at = started_at + interval '2 days'", "before it began"),
    _attempt("number skipped", "number = 2", "attempt 1 is missing, while 2 is recorded"),
    _attempt("number repeated", "number = 1", "attempt 1 is recorded twice", FLAKY_2),
    _attempt("number negative", "number = -1", "never negative"),
    _attempt("number of none", "number = 0", "delivered does not go with number 0"),
    _attempt("duration", "duration_ms = -5", "never negative"),
    _attempt("outcome failed", "outcome = 'failed'", "failed does not go with status 204"),
    _attempt("outcome retrying", "outcome = 'retrying'", "retrying does not go with status 204"),
    _attempt("outcome suppressed", "outcome = 'suppressed'", "suppressed does not go with number 1"),
    _attempt("outcome expired", "outcome = 'expired'", "expired does not go with number 1"),
    _attempt("a failure called delivered", "outcome = 'delivered'", "delivered does not go with status 500", FLAKY_1),
    _attempt("a failure called final", "outcome = 'failed'", "after 1 .failed., which was final, there is another outcome", FLAKY_1),
    _attempt("suppressed called expired", "outcome = 'expired'", "it expired on the day", SUPPRESSED),
    _attempt("suppressed called delivered", "outcome = 'delivered'", "delivered does not go with number 0", SUPPRESSED),
    _attempt("status of a success", "status_code = 500", "delivered does not go with status 500"),
    _attempt("status of a success, none", "status_code = NULL", "delivered does not go with status None"),
    _attempt("status of a failure", "status_code = 502", "status 502 does not go with the error http_500", FLAKY_1),
    _attempt("status of a failure, none", "status_code = NULL", "without a status the error cannot be http_500", FLAKY_1),
    _attempt("status of a suppression", "status_code = 200", "ended without a request", SUPPRESSED),
    _attempt("error of a success", "error = 'timeout'", "status 204 does not go with the error timeout"),
    _attempt("error of a failure", "error = 'timeout'", "status 500 does not go with the error timeout", FLAKY_1),
    _attempt("error of a failure, none", "error = NULL", "status 500 does not go with the error None", FLAKY_1),
    _attempt("error of no kind", "error = 'whatever', status_code = NULL", "the error cannot be whatever", FLAKY_1),
    _attempt("error of a suppression", "error = 'timeout'", "ended without a request", SUPPRESSED),
    _attempt("route_version of none", "route_version = 99", "the route never had version 99"),
    _attempt("route_version of earlier", "route_version = 1", "as version 1 says, which was replaced at|version 1 of the route did not have the keys", "event_id = 'second'"),
    _attempt("key_ids of none", "key_ids = 'key_0'", "did not have the keys key_0"),
    _attempt("key_ids missing", "key_ids = NULL", "signed with no key"),
    _attempt("key_ids of a suppression", "key_ids = 'key_0'", "ended without a request", SUPPRESSED),
    _attempt("delivery_key", "delivery_key = delivery_key + 1", "delivery_key is"),
    _attempt("delivery_key missing", "delivery_key = NULL", "delivery_key is missing"),
    # ---- outcomes: whole rows
    Tampering("attempt, the only one deleted", f"DELETE FROM attempt WHERE {FIRST}", "missing attempt .*neither recorded nor waiting"),
    Tampering("attempt, the first of two deleted", f"DELETE FROM attempt WHERE {FLAKY_1}", "unexplained attempt .*attempt 1 is missing, while 2 is recorded"),
    Tampering("attempt, the last of two deleted", f"DELETE FROM attempt WHERE {FLAKY_2}", "missing retry .*attempt 1 failed and is to be repeated, but nothing waits"),
    Tampering("attempt, one of a waiting delivery deleted", "DELETE FROM attempt WHERE event_id = 'late-0'", "unexplained retry .*failures is 1, and 0 attempts are recorded"),
    Tampering("attempt, a suppression deleted", f"DELETE FROM attempt WHERE {SUPPRESSED}", "missing retry .*attempt 1 failed"),
    Tampering("attempt, all deleted", "DELETE FROM attempt", "missing attempt"),
    Tampering("attempt, repeated", _copied(FIRST), "unexplained attempt .*attempt 1 is recorded twice"),
    Tampering("attempt, another after the final one", _copied(FIRST, number="2"), "after 1 .delivered., which was final, there is another outcome"),
    Tampering("attempt, of an event before the route", _forged(FIRST, "before-all"), "unexpected attempt .*before_creation"),
    Tampering("attempt, of a filtered event", _forged("event_id = 'picked'", "left"), "unexpected attempt .*filtered"),
    Tampering("attempt, of a backfilled event", _forged(FIRST, "import"), "unexpected attempt .*backfill"),
    Tampering("attempt, of an event while disabled", _forged("event_id = 'closed-0' AND number = 1", "while-closed"), "unexpected attempt .*disabled_at_event_time"),
    Tampering("attempt, of an event after the deletion", _forged("event_id = 'bye'", "too-late"), "unexpected attempt .*after_deletion"),
    Tampering("attempt, a suppression in an open window", _copied(FIRST, number="0", outcome="'suppressed'", status_code="NULL", key_ids="NULL", duration_ms="0") + f"; DELETE FROM attempt WHERE {FIRST} AND number = 1", "unexplained attempt .*the window of its event is open still"),
    Tampering("attempt, of a parked delivery in the range", _copied(FIRST, event_id="'stuck-39'", event_type="'stuck.now'", seq="(SELECT seq FROM domain_event WHERE id = 'stuck-39')", route_id="(SELECT route_id FROM parked_range)", number="0", outcome="'suppressed'"), "unexplained attempt"),
    # ---- outcomes that nothing contradicts but their MAC
    _attempt("mac", "mac = substr(mac, 2) || substr(mac, 1, 1)", UNLIKE),
    _attempt("mac of another", f"mac = (SELECT mac FROM attempt WHERE {FLAKY_2})", UNLIKE),
    _attempt("mac gone", "mac = NULL", UNSIGNED),
    _attempt("duration a little longer", "duration_ms = duration_ms + 1", UNLIKE),
    _attempt("another success", "status_code = 200", UNLIKE),
    _attempt("another failure", "status_code = 502, error = 'http_502'", UNLIKE, FLAKY_1),
    _attempt("started a little later", "started_at = started_at + interval '1 millisecond'", UNLIKE),
    _attempt("answer", "response_body = 'thanks'", UNLIKE),
    _attempt("answer of a failure", "response_body = NULL", UNLIKE, FLAKY_1),
    _attempt("headers of the answer", """response_head = '[["Server", "theirs"]]'""", UNLIKE),
    Tampering("attempt, delivered instead of waiting", _copied("event_id = 'late-0'", number="2", outcome="'delivered'", status_code="204", error="NULL") + f"; DELETE FROM retry WHERE {LATE}", f"unexplained attempt .*outcome 2 .delivered. {UNSIGNED}"),
    Tampering("attempt, failed for good instead of waiting", f"UPDATE attempt SET outcome = 'failed' WHERE event_id = 'late-0'; DELETE FROM retry WHERE {LATE}", f"unexplained attempt .*outcome 1 .failed. {UNLIKE}"),
    Tampering("attempt, expired instead of waiting", _copied("event_id = 'late-0'", at="at + interval '1 day'", number="0", outcome="'expired'", status_code="NULL", error="NULL", key_ids="NULL", duration_ms="0", response_head="NULL", response_body="NULL", delivery_key="NULL") + f"; DELETE FROM retry WHERE {LATE}", f"unexplained attempt .*outcome 0 .expired. {UNSIGNED}"),
    Tampering("attempt, delivered at once though it failed first", f"DELETE FROM attempt WHERE {FLAKY_1}; UPDATE attempt SET number = 1 WHERE {FLAKY_2}", f"unexplained attempt .*outcome 1 .delivered. {UNLIKE}"),
    Tampering("meta, the check value gone", "DELETE FROM meta WHERE key = 'master_key_check'", "unexplained meta .*it is gone, and with it the key of the other MACs"),
    # ---- retries
    _retry("tick", "tick = tick + 1", "unexplained retry .*tick is"),
    _retry("event_time", "event_time = event_time - interval '1 second'", "unexplained retry .*event_time is"),
    _retry("recorded_at", "recorded_at = recorded_at + interval '1 second'", "unexplained retry .*recorded_at is"),
    _retry("shard", "shard = 15 - shard", "unexplained retry .*shard is"),
    _retry("tenant", "tenant = 'globex'", "unexplained retry .*tenant is globex"),
    _retry("failures, more", "failures = 59", "unexplained retry .*failures is 59, and 1 attempt are recorded|failures is 59"),
    _retry("failures, fewer", "failures = 0", "unexplained retry .*failures is 0"),
    _retry("due_at, never", "due_at = due_at + interval '10 years'", "unexplained retry .*it is due in .*, and the longest wait"),
    _retry("due_at, at once", "due_at = now()", "unexplained retry .*earlier than the schedule says, though nobody wanted it so"),
    _retry("due_at of one in flight", "due_at = due_at + interval '1 day'", "unexplained retry .*it is due in", HELD),
    _retry("seq of no event", "seq = 99999", r"unexplained retry .*seq 99999\): there is no such event"),
    _retry("no route", "route_id = gen_random_uuid()", "unexplained retry .*the route log has no such route"),
    _retry("route of another type", "route_id = (SELECT route_id FROM attempt WHERE event_id = 'bye')", "unexplained retry .*to which the route never subscribed"),
    Tampering("retry, deleted", f"DELETE FROM retry WHERE {LATE}", "missing retry .*attempt 1 failed and is to be repeated, but nothing waits"),
    Tampering("retry, one in flight deleted", f"DELETE FROM retry WHERE {HELD}", "missing attempt .*neither recorded nor waiting"),
    Tampering("retry, all deleted", "DELETE FROM retry", "missing retry"),
    Tampering("retry, of a delivery that has ended", "INSERT INTO retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant) SELECT a.route_id, a.seq, e.recorded_at, a.event_time, a.tick, a.shard, 1, now(), a.tenant FROM attempt a JOIN domain_event e USING (seq) WHERE a.event_id = 'first'", "unexplained retry .*it waits to be sent again, though nobody had it sent again"),
    Tampering("retry, of an event that is not due", "INSERT INTO retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant) SELECT r.route_id, e.seq, e.recorded_at, e.recorded_at, 1, e.shard, 0, now(), e.tenant FROM domain_event e, attempt r WHERE e.id = 'before-all' AND r.event_id = 'first'", "unexpected retry .*before_creation"),
    # ---- parked deliveries
    Tampering("parked, deleted", f"DELETE FROM parked WHERE {PACKED}", "missing attempt .*neither recorded nor waiting"),
    Tampering("parked, one taken out", f"UPDATE parked SET seqs = seqs[2:], ticks = ticks[2:], recorded_ats = recorded_ats[2:], event_times = event_times[2:] WHERE {PACKED}", "missing attempt .*neither recorded nor waiting"),
    Tampering("parked, seq", f"UPDATE parked SET seqs[1] = 99999 WHERE {PACKED}", "missing attempt|there is no such event"),
    Tampering("parked, tick", f"UPDATE parked SET ticks[1] = ticks[1] - 1 WHERE {PACKED}", "unexplained parked .*tick is"),
    Tampering("parked, recorded_at", f"UPDATE parked SET recorded_ats[1] = recorded_ats[1] + interval '1 hour' WHERE {PACKED}", "unexplained parked .*recorded_at is"),
    Tampering("parked, event_time", f"UPDATE parked SET event_times[1] = event_times[1] - interval '1 hour' WHERE {PACKED}", "unexplained parked .*event_time is"),
    Tampering("parked, last_tick", f"UPDATE parked SET last_tick = last_tick + 1 WHERE {PACKED}", "unexplained parked .*last_tick is .*, and the highest of ticks is"),
    Tampering("parked, arrays of two lengths", f"UPDATE parked SET ticks = ticks[2:] WHERE {PACKED}", "unexplained parked .*not of one length"),
    Tampering("parked, tenant", f"UPDATE parked SET tenant = 'globex' WHERE {PACKED}", "unexplained parked .*it says tenant globex"),
    Tampering("parked, shard", f"UPDATE parked SET shard = 15 - shard WHERE {PACKED}", "unexplained parked .*and shard"),
    Tampering("parked, no route", f"UPDATE parked SET route_id = gen_random_uuid() WHERE {PACKED}", "unexplained parked .*the route log has no such route"),
    Tampering("parked, route of another type", f"UPDATE parked SET route_id = (SELECT route_id FROM attempt WHERE event_id = 'bye') WHERE {PACKED}", "unexplained parked .*to which the route never subscribed"),
    # ---- the range
    Tampering("parked_range, deleted", "DELETE FROM parked_range", "missing attempt .*neither recorded nor waiting"),
    Tampering("parked_range, from_tick later", "UPDATE parked_range SET from_tick = from_tick + 2", "missing attempt .*neither recorded nor waiting"),
    Tampering("parked_range, from_tick earlier", "UPDATE parked_range SET from_tick = from_tick - 2", "unexplained parked_range .*though it has a row or an outcome"),
    Tampering("parked_range, from_tick of no tick", "UPDATE parked_range SET from_tick = 99999", "unexplained parked_range .*it begins at tick 99999, and the newest tick is"),
    Tampering("parked_range, from_seq", "UPDATE parked_range SET from_seq = 99999", "missing attempt .*neither recorded nor waiting"),
    Tampering("parked_range, pairs", "UPDATE parked_range SET pairs = 1", "unexplained parked_range .*pairs is 1, and the range stands for"),
    Tampering("parked_range, pairs negative", "UPDATE parked_range SET pairs = -1", "unexplained parked_range"),
    Tampering("parked_range, shard", "UPDATE parked_range SET shard = 15 - shard", "unexplained parked_range .*tenant belongs to another"),
    Tampering("parked_range, no route", "UPDATE parked_range SET route_id = gen_random_uuid()", "unexplained parked_range .*no such route"),
    # ---- events
    _event("type", "type = 'order.update'", "unexplained attempt .*event_type is order.create, and that of the event is order.update"),
    _event("type to which nobody subscribed", "type = 'nobody.wants'", "unexplained attempt .*the event is of type nobody.wants, to which the route never subscribed"),
    _event("id", "id = 'another'", "unexplained attempt .*event_id is first, and that of the event is another"),
    _event("tenant", "tenant = 'globex'", "the event is one of tenant globex, and the route one of acme"),
    _event("recorded_at", "recorded_at = recorded_at + interval '1 millisecond'", "unexplained attempt .*event_time is"),
    _event("occurred_at", "occurred_at = recorded_at - interval '1 millisecond'", "unexplained attempt .*event_time is"),
    _event("occurred_at taken away", "occurred_at = NULL", "unexplained attempt .*event_time is", "past"),
    _event("backfill", "backfill = true", "unexpected attempt .*backfill"),
    _event("not backfill", "backfill = false", "missing attempt .*neither recorded nor waiting", "import"),
    _event("test of another route", "test_route = gen_random_uuid()", "unexplained attempt .*is_test is False, and that of the event is True"),
    _event("data that a filter asks for", "data = '{\"n\": 2}'", "unexpected attempt .*filtered", "picked"),
    _event("data that a filter stopped", "data = '{\"n\": 1}'", "missing attempt .*neither recorded nor waiting", "left"),
    _event("txid of another tick", "txid = (SELECT txid FROM domain_event WHERE id = 'flaky')", "unexplained attempt .*tick is"),
    _event("txid of no transaction yet", "txid = '9999999999'", "1 event of this period is not read yet"),
    _event("tick of a restore", "tick = 1", "unexplained attempt .*tick is"),
    _event("of a parked delivery", "recorded_at = recorded_at - interval '1 millisecond'", "unexplained parked", "stuck-2"),
    _event("of a waiting delivery", "recorded_at = recorded_at + interval '1 millisecond'", "unexplained attempt .*event_time|unexplained retry", "late-0"),
    Tampering("domain_event, deleted", "DELETE FROM domain_event WHERE id = 'first'", "unexplained attempt .*there is no such event"),
    Tampering("domain_event, of a waiting delivery deleted", "DELETE FROM domain_event WHERE id = 'late-0'", "unexplained (attempt|retry) .*there is no such event"),
    Tampering("domain_event, of a parked delivery deleted", "DELETE FROM domain_event WHERE id = 'stuck-2'", "unexplained parked .*there is no such event"),
    Tampering("domain_event, added", "INSERT INTO domain_event (seq, recorded_at, txid, tenant, id, type, data) SELECT seq + 100000, recorded_at, txid, tenant, 'forged', type, data FROM domain_event WHERE id = 'first'", "missing attempt .*neither recorded nor waiting"),
    Tampering("domain_event, added behind more numbers than anybody could walk over", "INSERT INTO domain_event (seq, recorded_at, txid, tenant, id, type, data) SELECT seq + 1000000000000000, recorded_at, txid, tenant, 'forged', type, data FROM domain_event WHERE id = 'first'", "missing attempt .*neither recorded nor waiting"),
    Tampering("domain_event, all deleted", "DELETE FROM domain_event", "there is no such event|no event of this period"),
    # ---- ticks
    _tick("at", "at = at + interval '1 hour'", "unexplained tick .*closed_upto is .*, which does not follow"),
    _tick("closed_upto, later", "closed_upto = closed_upto + interval '1 hour'", "unexplained tick"),
    _tick("closed_upto, earlier", "closed_upto = closed_upto - interval '1 hour'", "unexplained tick"),
    _tick("route_pos, lower", "route_pos = route_pos - 1", "unexplained tick .*route_pos is \\d+, and was \\d+ at the tick before it", _AFTER_NO_CHANGE),
    _tick("route_pos, lower than a change before it", "route_pos = route_pos - 1", "unexplained tick .*took effect at .*, which the tick's route_pos", _AFTER_A_CHANGE),
    _tick("route_pos, higher", "route_pos = route_pos + 1", "unexplained tick .*closed_upto"),
    _tick("route_pos behind the end", "route_pos = 99999", "unexplained tick .*route_pos is 99999, and the route log ends before that", "tick = (SELECT max(tick) FROM tick)"),
    _tick("snap, of earlier", "snap = '2:2:'", "unexplained tick .*its snapshot shows less"),
    _tick("snap, of later", "snap = (SELECT snap FROM tick WHERE tick = 5)", "unexplained tick|unexplained attempt .*tick is"),
    _tick("number", "tick = 99999", "unexplained (tick|attempt)"),
    Tampering("tick, deleted", "DELETE FROM tick WHERE tick = 3", r"unexplained tick \(tick 4\): it follows tick 2: those between them are missing"),
    Tampering("tick, the last deleted", "DELETE FROM tick WHERE tick = (SELECT max(tick) FROM tick)", "unexplained checkpoint .*the checkpoint is tick .*, and the newest tick is"),
    # ---- progress and retention
    Tampering("checkpoint, ahead", "UPDATE checkpoint SET tick = 99999 WHERE shard = 3", r"unexplained checkpoint \(shard 3\): the checkpoint is tick 99999, and the newest tick is"),
    Tampering("checkpoint, negative", "UPDATE checkpoint SET tick = -1 WHERE shard = 3", "unexplained checkpoint"),
    Tampering("checkpoint, behind", "UPDATE checkpoint SET tick = 0", "events of this period are not read yet, and were not judged"),
    Tampering("checkpoint, deleted", "DELETE FROM checkpoint WHERE shard = 3", r"unexplained checkpoint \(shard 3\): the shard has no checkpoint"),
    Tampering("meta, events kept from tomorrow", "INSERT INTO meta VALUES ('events_kept_from', to_char(now() + interval '1 day', 'YYYY-MM-DD\"T\"00:00:00+00:00'))", "unexplained meta .*retention drops whole days that are over"),
    Tampering("meta, events kept from within a day", "INSERT INTO meta VALUES ('events_kept_from', now()::text)", "unexplained meta .*retention drops whole days that are over|is no time"),
    Tampering("meta, outcomes kept from tomorrow", "INSERT INTO meta VALUES ('attempts_kept_from', to_char(now() + interval '1 day', 'YYYY-MM-DD\"T\"00:00:00+00:00'))", "unexplained meta .*retention drops whole days that are over"),
    Tampering("meta, kept from nonsense", "INSERT INTO meta VALUES ('events_kept_from', 'x')", "unexplained meta .*'x' is no time"),
    Tampering("resend, deleted", "DELETE FROM resend", "unexplained attempt .*there is another outcome, though nobody had it sent again"),
    Tampering("resend, of another delivery", "UPDATE resend SET seq = (SELECT seq FROM domain_event WHERE id = 'lost')", "though nobody had it sent again"),
    Tampering("resend, of no event", "UPDATE resend SET seq = 99999", "unexplained (resend|attempt)"),
    Tampering("resend, of no route", "UPDATE resend SET route_id = gen_random_uuid()", "unexplained (resend|attempt)"),
    Tampering("resend, by somebody else", "UPDATE resend SET actor = 'mallory'", f"unexplained resend .*manual retry .* {UNLIKE}"),
    Tampering("resend, without a MAC", "UPDATE resend SET mac = NULL", f"unexplained resend .*manual retry .* {UNSIGNED}"),
    Tampering("resend, repeated with its MAC", "INSERT INTO resend (at, route_id, seq, actor, origin, reason, mac) SELECT at, route_id, seq, actor, origin, reason, mac FROM resend LIMIT 1", f"unexplained resend .*manual retry .* {UNLIKE}"),
    Tampering("resend, of what failed for good, and the delivery waits", "INSERT INTO resend (route_id, seq, actor, origin) SELECT route_id, seq, 'jane', 'api' FROM attempt WHERE event_id = 'first'; INSERT INTO retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant) SELECT a.route_id, a.seq, e.recorded_at, a.event_time, a.tick, a.shard, 1, now(), a.tenant FROM attempt a JOIN domain_event e USING (seq) WHERE a.event_id = 'first'", f"unexplained resend .*manual retry .* {UNSIGNED}"),
    Tampering("replay, by somebody else", "UPDATE replay SET actor = 'mallory'", f"unexplained replay .*replay .* {UNLIKE}"),
    Tampering("replay, of a longer period", "UPDATE replay SET until = until + interval '1 hour'", f"unexplained replay .*replay .* {UNLIKE}"),
    Tampering("replay, without a MAC", "UPDATE replay SET mac = NULL", f"unexplained replay .*replay .* {UNSIGNED}"),
    Tampering("replay, deleted", "DELETE FROM replay", "though nobody had it sent again"),
    Tampering("replay, of another period", "UPDATE replay SET sendable_from = until", "though nobody had it sent again"),
    Tampering("replay, of another route", "UPDATE replay SET route_id = gen_random_uuid()", "though nobody had it sent again"),
    # ---- counts
    Tampering("route_metric, more", "UPDATE route_metric SET successful = successful + 1 WHERE successful > 0", r"unexplained route_metric .*successful is \d+, and \d+ such outcomes are recorded"),
    Tampering("route_metric, fewer failures", "UPDATE route_metric SET failed = 0 WHERE failed > 0", r"unexplained route_metric .*failed is 0, and \d+ such outcomes"),
    Tampering("route_metric, deleted", "DELETE FROM route_metric WHERE failed > 0", r"unexplained route_metric .* is 0, and \d+ such outcomes"),
    Tampering("route_metric, of another route", "INSERT INTO route_metric (route_id, hour, successful, successful_retries, failed, suppressed, expired) SELECT gen_random_uuid(), max(hour), 0, 0, 7, 0, 0 FROM route_metric", "unexplained route_metric .*failed is 7, and 0 such outcomes"),
    Tampering("route_tally, added", "INSERT INTO route_tally (hour, at, route_ids, successful, successful_retries, failed, suppressed, expired, failures, cells, requests) SELECT max(hour), max(hour), ARRAY[gen_random_uuid()], '{0}', '{0}', '{0}', '{0}', '{3}', '{0}', '{-1}', '{0}' FROM route_metric", "unexplained route_metric .*expired is 3, and 0 such outcomes"),
    # ---- secrets
    Tampering("route_key, deleted", "DELETE FROM route_key WHERE route_id = (SELECT route_id FROM attempt WHERE event_id = 'flaky' LIMIT 1)", "unexplained route_key .*the route log names it, and it is not there"),
    Tampering("route_key, of another route", "UPDATE route_key SET sealed = (SELECT max(sealed::text)::bytea FROM route_key k WHERE k.route_id <> route_key.route_id) WHERE route_id = (SELECT route_id FROM attempt WHERE event_id = 'flaky' LIMIT 1)", "unexplained route_key .*not sealed for this route"),
    Tampering("route_key, one bit", "UPDATE route_key SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200))", "unexplained route_key .*not sealed for this route"),
    Tampering("route_key, renamed", "UPDATE route_key SET key_id = 'key_0' WHERE route_id = (SELECT route_id FROM attempt WHERE event_id = 'flaky' LIMIT 1)", "unexplained route_key .*the route log does not name it"),
    Tampering("route_headers, deleted", "DELETE FROM route_headers", "unexplained route_headers .*the route log names it, and it is not there"),
    Tampering("route_headers, exchanged", "UPDATE route_headers SET sealed = (SELECT o.sealed FROM route_headers o WHERE o.headers_id <> route_headers.headers_id LIMIT 1)", "unexplained route_headers .*not sealed for this route"),
    # ---- tokens, sessions and login links
    *(
        Tampering(f"{table}, {column}", f"UPDATE {table} SET {column} = {value}", f"unexplained {table} .*it is not as anybody with our master key made it")
        for table, values in {
            "api_token": {"id": "'0123456789ab'", "kind": "'producer'", "tenant": "'globex'", "name": "'mine'", "hash": "sha256('x')", "created_at": "created_at - interval '1 s'", "created_by": "'cli:root'", "expires_at": "now() + interval '1 h'", "mac": "sha256(mac)"},
            "login_link": {"hash": "sha256('x')", "tenant": "NULL", "created_by": "'cli:root'", "expires_at": "expires_at + interval '1 s'", "actor": "'root'", "role": "'manage'", "return_url": "'https://evil.example/'", "path": "'/operator'", "mac": "''"},
            "session": {"hash": "sha256('x')", "tenant": "NULL", "created_at": "'infinity'", "actor": "'root'", "role": "'manage'", "mac": "sha256('x')"},
        }.items()
        for column, value in values.items()
    ),
    Tampering("api_token, added", "INSERT INTO api_token (id, kind, name, hash, created_by) VALUES ('0123456789ab', 'admin', '', sha256(''), 'cli')", r"unexplained api_token \(id 0123456789ab\): it has no MAC"),
    Tampering("login_link, added", "INSERT INTO login_link (hash, created_by, expires_at) VALUES (sha256(''), 'cli', now())", "unexplained login_link .*it has no MAC"),
    Tampering("session, added", "INSERT INTO session (hash, created_at) VALUES (sha256(''), '0044-03-15 BC')", r"unexplained session \(hash e3b0c442.*it has no MAC"),
    # ---- the route log
    _log("tenant", "tenant = 'globex'"),
    _log("version", "version = 7", where="pos = (SELECT min(pos) FROM route_event WHERE type = 'edited')"),
    _log("type", "type = 'disabled'", where="pos = (SELECT min(pos) FROM route_event WHERE type = 'edited')"),
    _log("effective_at", "effective_at = effective_at - interval '1 microsecond'"),
    _log("actor", "actor = 'somebody else'"),
    _log("origin", "origin = 'elsewhere'"),
    _log("reason", "reason = 'because'"),
    _log("request_id", "request_id = 'r'"),
    _log("correlation_id", "correlation_id = 'c'"),
    _log("causation_id", "causation_id = 'c'"),
    _log("body", "body = replace(body, 'down', 'gone')"),
    _log("route_id", "route_id = gen_random_uuid()"),
    _log("prev_hash", "prev_hash = ''", "does not continue the chain"),
    _log("hash", "hash = sha256(hash)"),
    _log("pos", "pos = 99999", "2 of the route log is missing"),
    Tampering("route_event, one deleted", "DELETE FROM route_event WHERE pos = 5", "error: position 5 of the route log is missing"),
    Tampering("route_event, the first deleted", "DELETE FROM route_event WHERE pos = 1", "error: position 1 of the route log is missing"),
    Tampering("route_event, the last deleted", "DELETE FROM route_event WHERE pos = (SELECT max(pos) FROM route_event)", "unexplained tick .*the route log ends before that"),
    Tampering("route_event, all deleted", "DELETE FROM route_event", "the route log ends before that"),
    # ---- rows that nobody would look at, and marks by which a fault would be none
    Tampering("attempt, days before its event", "SELECT ensure_partitions(current_date - 6, current_date);" + _copied(FIRST, at="at - interval '5 days'", started_at="started_at - interval '5 days'"), "unexplained attempt .*recorded more than a day before its event"),
    _retry("replay of none", "replay = gen_random_uuid()", "unexplained retry .*no such replay is of this route and this time"),
    Tampering("retry, by a replay that is done", "INSERT INTO retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant, replay) SELECT a.route_id, a.seq, e.recorded_at, a.event_time, a.tick, a.shard, 4, now(), a.tenant, p.id FROM attempt a JOIN domain_event e USING (seq) JOIN replay p ON p.route_id = a.route_id WHERE a.event_id = 'again' AND a.number = 4", "unexplained retry .*no such replay is of this route and this time"),
    Tampering("domain_event_seq, put back", "SELECT setval('domain_event_seq', 5)", r"unexplained domain_event_seq .*it has given 5, and there is an event \d+"),
    _retry("replay of another route", "replay = (SELECT id FROM replay LIMIT 1)", "unexplained retry .*no such replay is of this route"),
    Tampering("retry, failures of a replay", "INSERT INTO replay (id, route_id, tenant, wanted, since, until, sendable_from, actor, origin, state, ended_at, ended_txid, total) SELECT '00000000-0000-0000-0000-000000000001', route_id, tenant, 'all', event_time, event_time + interval '1 hour', event_time, 'x', 'x', 'cancelled', now(), 1, 1 FROM retry WHERE seq = (SELECT seq FROM domain_event WHERE id = 'late-0'); UPDATE retry SET replay = '00000000-0000-0000-0000-000000000001', failures = 59 WHERE seq = (SELECT seq FROM domain_event WHERE id = 'late-0')", "unexplained retry .*failures is 59, and 1 attempt are recorded"),
    # ---- times that are none, and what else no column of ours ever holds
    _attempt("started_at never", "started_at = 'infinity'", "started_at is infinity, which is no time"),
    _attempt("started_at before all", "started_at = '-infinity'", "started_at is -infinity, which is no time"),
    _attempt("started_at before Christ", "started_at = '0044-03-15 BC'", "started_at is 0044-03-15 .*BC, which is no time"),
    _attempt("event_time never", "event_time = 'infinity'", "event_time is"),
    _attempt("event_time after 9999", "event_time = '20000-01-01'", "event_time is 20000-01-01.*, which is no time"),
    _retry("due_at never", "due_at = 'infinity'", "unexplained retry .*due_at is infinity, which is no time"),
    _retry("due_at before all", "due_at = '-infinity'", "unexplained retry .*due_at is -infinity, which is no time"),
    _retry("due_at before Christ", "due_at = '0044-03-15 BC'", "unexplained retry .*due_at is 0044.*, which is no time"),
    _tick("at never", "at = 'infinity', closed_upto = 'infinity'", "unexplained tick .*at is infinity, which is no time"),
    _tick("closed_upto before all", "closed_upto = '-infinity'", "unexplained tick .*closed_upto"),
    _tick("closed_upto after 9999", "closed_upto = '20000-01-01'", "unexplained tick .*closed_upto is 20000.*, which is no time"),
    Tampering("resend, at before all", "UPDATE resend SET at = '-infinity'", "unexplained resend .*at is -infinity, which is no time"),
    Tampering("replay, created_at before all", "UPDATE replay SET created_at = '-infinity'", "unexplained replay .*created_at is -infinity"),
    Tampering("parked, event_times after 9999", "UPDATE parked SET event_times[1] = '20000-01-01'", "unexplained parked .*event_times is 20000.*, which is no time"),
    Tampering("parked, of two dimensions", "UPDATE parked SET seqs = ARRAY[seqs], ticks = ARRAY[ticks]", "unexplained parked .*not of one length"),
    _log("effective_at never", "effective_at = 'infinity'", "has no time that is ever written"),
    Tampering("route_event, effective_at before Christ", "UPDATE route_event SET effective_at = '0044-03-15 BC' WHERE pos = 2", "unexplained route_event .*effective_at is 0044.*, which is no time"),
    Tampering("steady_clock, deleted", "DELETE FROM steady_clock", "unexplained steady_clock .*there are 0 rows"),
    Tampering("steady_clock, absurd", "UPDATE steady_clock SET ahead_microseconds = 9223372036854775807", "unexplained steady_clock .*the clock was set by 9223372036854775807"),
    Tampering("meta, kept_from without a zone", "INSERT INTO meta VALUES ('events_kept_from', '2026-01-01T00:00:00')", "unexplained meta .*is no time"),
    Tampering("meta, kept_from out of range", "INSERT INTO meta VALUES ('attempts_kept_from', '0001-01-01T00:00:00+14:00')", "unexplained meta .*is no time"),
]
# fmt: on
