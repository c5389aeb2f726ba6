"""Whether the schema is that of this version: what an audit looks at before it believes what it reads."""

import re
from pathlib import Path

import asyncpg
import pytest

import eventstore
from eventstore.postgres import schema_lines
from eventstore.postgres.connect import Database

# What somebody with the database does, and the first part of which it is told, with what is told of it.
CHANGES = {
    "a view in place of a table": (
        "ALTER TABLE resend RENAME TO real; CREATE VIEW resend AS SELECT * FROM real", "table resend", "it is a view"),
    "a view in place of a log": (
        "ALTER TABLE attempt RENAME TO real; CREATE VIEW attempt AS SELECT * FROM real", "table attempt", "it is a view"),
    "a table that is gone": ("DROP TABLE lost_log", "table lost_log", "it is missing"),
    "a table that no crash leaves": ("ALTER TABLE seal SET UNLOGGED", "table seal", "it is a table, not durable"),
    "a policy": ("CREATE POLICY hides ON retry USING (false)", "policy retry.hides", "it does not belong there"),
    "row security": ("ALTER TABLE retry FORCE ROW LEVEL SECURITY", "table retry", "it is a table, with row security"),
    "a rule": ("CREATE RULE r AS ON INSERT TO resend DO INSTEAD NOTHING", "rule resend.r", "it does not belong there"),
    "a trigger of somebody else": (
        ("CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; "
        "CREATE TRIGGER x BEFORE INSERT ON attempt FOR EACH ROW EXECUTE FUNCTION evil()"), "trigger attempt.x", "it does not belong"),
    "a trigger on one day": (
        ("CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; "
        "DO $$ BEGIN EXECUTE (SELECT format('CREATE TRIGGER x BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION evil()', "
        "inhrelid::regclass) FROM pg_inherits WHERE inhparent = 'attempt'::regclass LIMIT 1); END $$"), "trigger attempt_DAY.x",
        "it does not belong"),
    "a trigger that is off": (
        "ALTER TABLE seal DISABLE TRIGGER seal_append_only", "trigger seal.seal_append_only", "it is .*, not enabled"),
    **{f"a trigger that is off on {which} day": (
        ("DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE %s DISABLE TRIGGER domain_event_append_only', inhrelid::regclass) "
        f"FROM pg_inherits WHERE inhparent = 'domain_event'::regclass ORDER BY inhrelid {order} LIMIT 1); END $$"),
        "trigger domain_event_DAY.domain_event_append_only", "it is .*, not enabled")
       for which, order in (("the first", "ASC"), ("the last", "DESC"))},
    "ids that may be there twice on one day": (
        ("DO $$ BEGIN EXECUTE (SELECT format('DROP INDEX %s_id_key', inhrelid::regclass) FROM pg_inherits "
        "WHERE inhparent = 'domain_event'::regclass ORDER BY inhrelid LIMIT 1); END $$"),
        "index domain_event_DAY.id_key", "it is unique, not on each day"),
    "ids that are checked in part": (
        ("DO $$ BEGIN EXECUTE (SELECT format('DROP INDEX %1$s_id_key; CREATE UNIQUE INDEX %2$I ON %1$s (id, tenant) WHERE seq < 0', "
        "inhrelid::regclass, c.relname || '_id_key') FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
        "WHERE inhparent = 'domain_event'::regclass ORDER BY inhrelid LIMIT 1); END $$"),
        "index domain_event_DAY.id_key", "it is unique, not on each day"),
    "two replays of a route at a time": ("DROP INDEX replay_running_key", "index replay.replay_running_key", "it is missing"),
    "a trigger that is gone": ("DROP TRIGGER attempt_tally ON attempt", "trigger attempt.attempt_tally", "it is missing"),
    "the text of a function": (
        "CREATE OR REPLACE FUNCTION log_time() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RETURN now(); END $$",
        "function log_time()", "it is not that of this version"),
    "whose rights a function has": (
        "ALTER FUNCTION make_tick() SECURITY DEFINER", "function make_tick()", "it is not that of this version"),
    "a setting of a function": (
        "ALTER FUNCTION tick_of(xid8) SET search_path = public", "function tick_of(xid8)", "it is not that of this version"),
    "a function that is called instead": (
        "CREATE FUNCTION publish(tenant text, type text, data jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
        "function publish(text, text, jsonb)", "it does not belong there"),
    "the default of a column": (
        "ALTER TABLE domain_event ALTER recorded_at SET DEFAULT '2026-01-01'", "column domain_event.recorded_at", "it is .*2026-01-01"),
    "a computed column that may be set": (
        "ALTER TABLE domain_event ALTER shard DROP EXPRESSION", "column domain_event.shard", "it is smallint not null, and"),
    "the type of a column": ("ALTER TABLE resend ALTER actor TYPE varchar(9)", "column resend.actor", "it is character varying"),
    "the collation of a column": ('ALTER TABLE resend ALTER actor TYPE text COLLATE "C"', "column resend.actor", "it is text collate C"),
    "a column more": ("ALTER TABLE resend ADD x integer", "column resend.x", "it does not belong there: integer"),
    "a key that is gone": ("ALTER TABLE retry DROP CONSTRAINT retry_pkey", "constraint retry.retry_pkey", "it is missing"),
    "a condition that is gone": (
        "ALTER TABLE attempt DROP CONSTRAINT attempt_outcome_check", "constraint attempt.attempt_outcome_check", "it is missing"),
    "a condition that holds for no row": (
        "ALTER TABLE retry ADD CONSTRAINT x CHECK (seq < 0) NOT VALID", "constraint retry.x", "it does not belong there"),
    "a table whose rows are read with ours": (
        "CREATE TABLE more () INHERITS (retry)", "child retry.more", "it does not belong there: its rows are read with"),
    "a partition for all other times": (
        "CREATE TABLE attempt_rest PARTITION OF attempt DEFAULT", "child attempt.attempt_rest", "it does not belong there"),
    "a partition for another day than its name": (
        "CREATE TABLE attempt_20300101 PARTITION OF attempt FOR VALUES FROM ('2031-01-01 00:00:00+00') TO ('2031-01-02 00:00:00+00')",
        "child attempt.attempt_20300101", "it does not belong there"),
    "a partition of two days": (
        "CREATE TABLE attempt_20300101 PARTITION OF attempt FOR VALUES FROM ('2030-01-01 00:00:00+00') TO ('2030-01-03 00:00:00+00')",
        "child attempt.attempt_20300101", "it does not belong there"),
    "a partition that no crash leaves": (
        "CREATE UNLOGGED TABLE attempt_20300101 PARTITION OF attempt FOR VALUES FROM ('2030-01-01 00:00:00+00') TO ('2030-01-02 00:00:00+00')",
        "child attempt.attempt_20300101", "it does not belong there"),
    "a function in a condition": (
        ("CREATE FUNCTION mine(text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$; ALTER TABLE attempt DROP CONSTRAINT "
        "attempt_outcome_check, ADD CONSTRAINT attempt_outcome_check CHECK (mine(outcome))"),
        "condition attempt.attempt_outcome_check", "it calls hookledger.mine"),
    "a function in a condition of one day": (
        ("CREATE FUNCTION public.mine(text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$; "
        "DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE %s ADD CONSTRAINT x CHECK (public.mine(outcome))', "
        "inhrelid::regclass) FROM pg_inherits WHERE inhparent = 'attempt'::regclass LIMIT 1); END $$"),
        "condition attempt_DAY.x", "it calls public.mine|it rests on function public.mine"),
    "a statement in a condition": (
        ("ALTER TABLE retry ADD CONSTRAINT x CHECK (query_to_xml('SELECT 1', true, true, '') IS NOT NULL)"),
        "condition retry.x", "it calls query_to_xml"),
    "a function in an index": (
        ("CREATE FUNCTION public.mine(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'x' $$; "
        "CREATE INDEX x ON retry (public.mine(tenant))"), "expression retry.x", "it rests on function public.mine"),
    "another order of an index": (
        ("CREATE FUNCTION public.mine(bigint, bigint) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT 0 $$; "
        "CREATE OPERATOR CLASS public.mine FOR TYPE bigint USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, "
        "OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 public.mine(bigint, bigint); CREATE INDEX x ON retry (seq public.mine)"),
        "expression retry.x", "it rests on operator class public.mine"),
    "a cast by which a column is shown as another text": (
        ("CREATE FUNCTION public.mine(uuid) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$; "
        "CREATE CAST (uuid AS text) WITH FUNCTION public.mine(uuid)"), "cast uuid to text", "it stands in for that of PostgreSQL"),
    "a function among those of PostgreSQL": (
        "CREATE FUNCTION pg_catalog.to_char(date, text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$",
        "function pg_catalog.to_char(date, text)", "it is none of PostgreSQL's"),
    "a function in the place of PostgreSQL's": (
        ("CREATE OR REPLACE FUNCTION pg_catalog.sha224(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE "
        "AS $$ SELECT substr(sha384($1), 1, 28) $$"), "function pg_catalog.sha224(bytea)", "it is not that of PostgreSQL any more"),
    "an operator among those of PostgreSQL": (
        "CREATE OPERATOR pg_catalog.= (LEFTARG = text, RIGHTARG = integer, FUNCTION = left)",
        "operator pg_catalog.=(text,integer)", "it is none of PostgreSQL's"),
    "what is sent of a type": (
        ("CREATE FUNCTION public.mine(macaddr) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RETURN macaddr_send($1); END $$; "
        "ALTER TYPE macaddr SET (SEND = public.mine)"), "type macaddr", "it rests on function public.mine"),
    "an aggregate in the place of PostgreSQL's": (
        ("CREATE FUNCTION public.mine(bigint, bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT 1 $$; "
        "CREATE OR REPLACE AGGREGATE pg_catalog.max(bigint) (SFUNC = public.mine, STYPE = bigint)"),
        "aggregate pg_catalog.max(bigint)", "it is not that of PostgreSQL any more"),
}  # fmt: skip
OF_AN_OPERATOR = """
CREATE TABLE report (id integer PRIMARY KEY); CREATE VIEW failing AS SELECT * FROM route_failing;
CREATE INDEX mine ON attempt (duration_ms); GRANT SELECT ON attempt TO hookledger_producer;
CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$;
CREATE TABLE attempt_20300101 PARTITION OF attempt FOR VALUES FROM ('2030-01-01 00:00:00+00') TO ('2030-01-02 00:00:00+00');
ALTER TABLE attempt_20300101 SET (autovacuum_enabled = off); COMMENT ON TABLE report IS 'mine';
CREATE INDEX lower ON attempt (lower(event_id) text_pattern_ops); CREATE CAST (text AS uuid) WITH INOUT;
CREATE FUNCTION pg_catalog.provider_version() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
CREATE TYPE public.kind AS ENUM ('a'); CREATE FUNCTION public.of(public.kind) RETURNS text LANGUAGE sql AS $$ SELECT 'a' $$;
CREATE CAST (public.kind AS text) WITH FUNCTION public.of(public.kind)
"""


async def test_a_fresh_schema_is_what_is_expected(database: Database) -> None:
    """A change of schema.sql needs new lines: this test says what is to stand in expected_schema.txt."""
    there = (Path(eventstore.__file__).parent / "expected_schema.txt").read_text()
    assert there == "".join(f"{part}\t{line}\n" for part, line in sorted((await schema_lines.lines(database)).items()))
    assert await schema_lines.faults(database) == []


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_schema_is_told(database: Database, sql: asyncpg.Connection, change: str) -> None:
    statement, part, told = CHANGES[change]
    await sql.execute(f"SET search_path = hookledger; {statement}")
    found = await schema_lines.faults(database)
    assert found[0].part == part
    assert re.match(told, found[0].detail), found[0].detail


async def test_a_default_by_which_no_trigger_fires_is_told(database_url: str, sql: asyncpg.Connection) -> None:
    name = await sql.fetchval("SELECT current_database()")
    await sql.execute(f'ALTER DATABASE "{name}" SET session_replication_role = replica')
    later = Database(database_url, pool_size=1)
    await later.open()
    ((part, detail),) = await schema_lines.faults(later)
    await later.close()
    assert (part, detail) == ("setting session_replication_role", "it is replica, and in this version origin")


async def test_what_an_operator_adds_beside_ours_is_no_fault(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(f"SET search_path = hookledger; {OF_AN_OPERATOR}")
    assert await schema_lines.faults(database) == []
