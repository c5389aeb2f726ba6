"""Whether the schema is that of this version: what stands between the rows and those who read or write them.

A view in place of a table, a policy, a rule, a child table, a trigger or another function can show an audit other rows
than those that are stored, or store other ones than were sent. `expected_schema.txt` has a line for each part of a
fresh schema, and a test holds it against schema.sql. Roles and objects of somebody's own are left out: an operator may
have some. So are indexes, but for the unique ones, without which something may be there twice; and the text of
conditions, which versions of PostgreSQL might write differently.

What those call is looked at, since it runs with each row that is written: a function in a condition or an index is a
trigger by another name. So is what stands in for PostgreSQL's own: a cast by which a column is shown as another text,
what is sent of a type, a function or an operator among its own, and one of its functions that was replaced.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch

_EXPECTED = Path(__file__).parents[1] / "expected_schema.txt"
_SECONDS = 30.0
# As _LINES says it.
_NOT_ON_EACH = "not on each day"

# Each part with what there is to say of it. Day partitions have the triggers of their table, one range of a day each,
# and nothing of their own but the unique index. One that retention is about to detach is not read any more. The text of
# a bound is asked for without its relation, 0, since it is then there even if that was dropped meanwhile. That of an
# index would not be there. The setting is one by which no trigger fires.
_LINES = r"""
WITH relation AS (
    SELECT oid, relname::text AS name, relkind, relpersistence, relispartition,
           relrowsecurity OR relforcerowsecurity AS has_policies
      FROM pg_class WHERE relnamespace = 'hookledger'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
), child AS (
    SELECT c.oid, p.name AS parent, c.relname::text AS name,
           (p.relkind, c.relkind, c.relpersistence) = ('p', 'r', 'p')
           AND NOT c.relrowsecurity AND NOT c.relforcerowsecurity AND b.day[2]::date - b.day[1]::date = 1
           AND c.relname = p.name || '_' || replace(b.day[1], '-', '') AS is_day
      FROM pg_inherits i JOIN relation p ON p.oid = i.inhparent JOIN pg_class c ON c.oid = i.inhrelid
     CROSS JOIN LATERAL (
           SELECT regexp_match(pg_get_expr(c.relpartbound, 0), '^FOR VALUES FROM \(''([-0-9]{10}) 00:00:00\+00''\) '
                               'TO \(''([-0-9]{10}) 00:00:00\+00''\)$') AS day) b
     WHERE NOT i.inhdetachpending
)
SELECT 'table ' || name AS part,
       concat_ws(', ', CASE relkind WHEN 'r' THEN 'a table' WHEN 'p' THEN 'a table by ' || pg_get_partkeydef(oid)
                                    WHEN 'f' THEN 'a foreign table' ELSE 'a view' END,
                 CASE WHEN relpersistence <> 'p' THEN 'not durable' END,
                 CASE WHEN has_policies THEN 'with row security' END) AS line
  FROM relation WHERE NOT relispartition
 UNION ALL
SELECT format('column %s.%s', r.name, a.attname),
       concat_ws(' ', format_type(a.atttypid, a.atttypmod),
                 CASE WHEN a.attcollation <> t.typcollation THEN 'collate ' || (
                      SELECT collname FROM pg_collation o WHERE o.oid = a.attcollation) END,
                 CASE WHEN a.attnotnull THEN 'not null' END,
                 CASE WHEN a.attidentity <> '' THEN 'identity' WHEN a.attgenerated <> '' THEN 'generated' END,
                 pg_get_expr(d.adbin, d.adrelid))
  FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE NOT r.relispartition AND r.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
 UNION ALL
SELECT format('constraint %s.%s', r.name, c.conname),
       concat_ws(' ', CASE c.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique' WHEN 'c' THEN 'check'
                                     ELSE c.contype::text END,
                 CASE WHEN c.contype <> 'c' THEN (
                      SELECT string_agg(a.attname, ', ' ORDER BY k.place)
                        FROM unnest(c.conkey) WITH ORDINALITY k (number, place)
                        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number) END,
                 CASE WHEN NOT c.convalidated THEN 'not valid' END)
  FROM pg_constraint c JOIN relation r ON r.oid = c.conrelid
 WHERE NOT r.relispartition AND c.contype <> 'n'
 UNION ALL
SELECT DISTINCT format('trigger %s.%s', coalesce(d.parent || '_DAY', r.name), t.tgname),
       format('%s %s%s', t.tgfoid::regproc, t.tgtype, CASE WHEN t.tgenabled <> 'O' THEN ', not enabled' END)
  FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid LEFT JOIN child d ON d.oid = r.oid
 WHERE NOT t.tgisinternal OR t.tgparentid <> 0
 UNION ALL
SELECT format('function %s(%s)', p.proname, oidvectortypes(p.proargtypes)),
       concat_ws(', ', CASE WHEN p.proretset THEN 'a set' END, format_type(p.prorettype, NULL), l.lanname,
                 p.provolatile::text, CASE WHEN p.prosecdef THEN 'as its owner' END, p.proconfig::text,
                 p.pronargdefaults, left(encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'), 32))
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'hookledger'::regnamespace
 UNION ALL
SELECT format('policy %s.%s', r.name, p.polname), 'a policy' FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
 UNION ALL
SELECT format('rule %s.%s', r.name, w.rulename), 'a rule'
  FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class WHERE w.rulename <> '_RETURN'
 UNION ALL
SELECT format('child %s.%s', parent, name), 'its rows are read with those of ' || parent
  FROM child WHERE is_day IS NOT TRUE
 UNION ALL
SELECT format('index %s.%s', r.name, c.relname), 'unique'
  FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN relation r ON r.oid = x.indrelid
 WHERE x.indisunique AND x.indisvalid AND NOT r.relispartition
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid)
 UNION ALL
SELECT DISTINCT 'index domain_event_DAY.id_key',
       concat_ws(', ', 'unique', CASE WHEN u.indexrelid IS NULL THEN 'not on each day' END)
  FROM child d LEFT JOIN LATERAL (
       SELECT x.indexrelid FROM pg_index x
        WHERE x.indrelid = d.oid AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
          AND (SELECT array_agg(a.attname::text ORDER BY k.place)
                 FROM unnest(x.indkey) WITH ORDINALITY k (number, place)
                 JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number) = '{id,tenant}'
         LIMIT 1) u ON true
 WHERE d.parent = 'domain_event' AND d.is_day
 UNION ALL
SELECT 'setting session_replication_role', current_setting('session_replication_role')
 ORDER BY 1, 2
"""

# What no version of PostgreSQL brings along has an oid from here on; what initdb makes, and is not the same in all
# versions, from there on. Providers have functions of their own among PostgreSQL's, with names of their own.
_FIRST_OID = 16384
_FIRST_OF_INITDB = 10000
# What the conditions of this version call.
_CALLED = ("least", "length", "num_nulls", "octet_length")
# The functions of PostgreSQL that are written in SQL: the same in all versions. It calls the others by their number,
# whatever stands in its catalogue, unless that is SQL, which is put in their place.
_IN_SQL = (
    879, 880, 1176, 1215, 1216, 1285, 1290, 1296, 1298, 1305, 1306, 1307, 1309, 1310, 1311, 1348, 1384, 1386, 1426,
    1481, 1544, 1708, 1710, 1741, 1810, 1811, 1812, 1848, 1993, 2003, 2004, 2042, 2043, 2044, 2059, 2074, 2325, 2546,
    2547, 2548, 2549, 2550, 2631, 2932, 3050, 3935, 3936, 5023, 6183, 6184,
)  # fmt: skip

# What extensions bring along is their operator's choice, but for what is among PostgreSQL's own.
_CALLS = rf"""
WITH own AS (
    SELECT r.oid, coalesce(p.relname || '_DAY', r.relname::text) AS name
      FROM pg_class r LEFT JOIN pg_inherits i ON i.inhrelid = r.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
     WHERE r.relnamespace = 'hookledger'::regnamespace AND r.relkind IN ('r', 'p')
), calling AS (
    SELECT 'condition' AS kind, own.name, c.conname::text AS part, 'pg_constraint'::regclass AS classid, c.oid
      FROM pg_constraint c JOIN own ON own.oid = c.conrelid
     UNION ALL
    SELECT 'calculation', own.name, a.attname, 'pg_attrdef'::regclass, d.oid
      FROM pg_attrdef d JOIN own ON own.oid = d.adrelid
      JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
     UNION ALL
    SELECT 'expression', own.name, c.relname, 'pg_class'::regclass, c.oid
      FROM pg_index x JOIN own ON own.oid = x.indrelid JOIN pg_class c ON c.oid = x.indexrelid
)
SELECT DISTINCT format('%s %s.%s', kind, name, part) AS part,
       'it rests on ' || pg_describe_object(d.refclassid, d.refobjid, 0) AS detail
  FROM calling JOIN pg_depend d ON d.classid = calling.classid AND d.objid = calling.oid
 WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass,
                        'pg_type'::regclass, 'pg_collation'::regclass)
   AND d.refobjid >= {_FIRST_OID}
   AND NOT EXISTS (SELECT FROM pg_proc f WHERE d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
                      AND f.pronamespace = 'hookledger'::regnamespace)
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e')
 UNION ALL
SELECT DISTINCT format('condition %s.%s', own.name, c.conname), 'it calls ' || called.name[1]
  FROM pg_constraint c JOIN own ON own.oid = c.conrelid,
       regexp_matches(pg_get_expr(c.conbin, c.conrelid), '([[:alnum:]_."]+)\(', 'g') AS called (name)
 WHERE c.contype = 'c' AND lower(called.name[1]) <> ALL ($1::text[])
 UNION ALL
SELECT format('cast %s to %s', format_type(castsource, NULL), format_type(casttarget, NULL)),
       'it stands in for that of PostgreSQL'
  FROM pg_cast
 WHERE castsource < {_FIRST_OID} AND casttarget < {_FIRST_OID} AND castfunc >= {_FIRST_OID}
 UNION ALL
SELECT format('function pg_catalog.%s(%s)', p.proname, oidvectortypes(p.proargtypes)),
       CASE WHEN p.oid < {_FIRST_OID} THEN 'it is not that of PostgreSQL any more'
            ELSE 'it is none of PostgreSQL''s' END
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace = 'pg_catalog'::regnamespace
   AND CASE WHEN p.oid < {_FIRST_OID} THEN l.lanname NOT IN ('internal', 'c') AND p.oid < {_FIRST_OF_INITDB}
                                           AND p.oid <> ALL ($2::oid[])
            ELSE EXISTS (SELECT FROM pg_proc o
                          WHERE o.pronamespace = p.pronamespace AND o.proname = p.proname AND o.oid < {_FIRST_OID})
             AND NOT EXISTS (SELECT FROM pg_depend e
                              WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e') END
 UNION ALL
SELECT format('operator pg_catalog.%s', o.oid::regoperator), 'it is none of PostgreSQL''s'
  FROM pg_operator o
 WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oid >= {_FIRST_OID}
   AND EXISTS (SELECT FROM pg_operator n
                WHERE n.oprnamespace = o.oprnamespace AND n.oprname = o.oprname AND n.oid < {_FIRST_OID})
   AND NOT EXISTS (SELECT FROM pg_depend e
                    WHERE e.classid = 'pg_operator'::regclass AND e.objid = o.oid AND e.deptype = 'e')
 UNION ALL
SELECT format('type %s', format_type(t.oid, NULL)), 'it rests on function ' || f.oid::regprocedure
  FROM pg_type t JOIN pg_proc f ON f.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend)
 WHERE t.oid < {_FIRST_OID} AND f.oid >= {_FIRST_OID}
 UNION ALL
SELECT format('aggregate pg_catalog.%s', a.aggfnoid::oid::regprocedure), 'it is not that of PostgreSQL any more'
  FROM pg_aggregate a
 WHERE a.aggfnoid::oid < {_FIRST_OID}
   AND greatest(a.aggtransfn::oid, a.aggfinalfn::oid, a.aggmtransfn::oid, a.aggmfinalfn::oid) >= {_FIRST_OID}
 ORDER BY 1, 2
"""


class SchemaFault(NamedTuple):
    """A part of the schema that is missing, is another one, or does not belong there; `detail` says which."""

    part: str
    detail: str


async def lines(database: Database) -> dict[str, str]:
    """What there is to say of each part of the schema. If days differ in one, it is the longest: that names a fault."""
    async with database.connection(seconds=_SECONDS) as connection:
        rows = await connection.fetch(_LINES)
    return {row["part"]: row["line"] for row in rows}


async def faults(database: Database) -> list[SchemaFault]:
    """What is not as in a fresh schema of this version: tables first, and of what is no table any more only that."""
    found, wanted = await lines(database), expected()
    gone = {part for part in wanted if part.startswith("table ") and not found.get(part, "").startswith("a table")}
    differing = [
        SchemaFault(part, "it is missing" if (there := found.get(part)) is None else _differs(part, there, line))
        for part, line in wanted.items()
        if found.get(part) != line and (part in gone or _table_of(part) not in gone)
    ]
    added = [
        SchemaFault(part, f"it does not belong there: {line}")
        for part, line in found.items()
        if part not in wanted and _is_in_the_way(part)
    ]
    others = await _calls(database)
    return sorted(differing + added + others, key=lambda fault: (not fault.part.startswith("table "), fault.part))


async def require_whole(database: Database, *, on_each_day: bool = False) -> None:
    """Raises SchemaMismatch if a part of the schema is not there, `on_each_day` also if a day has no unique index.

    A restore makes unique keys and triggers last: without them events are stored twice, and are not counted.
    """
    found = await lines(database)
    gone = [part for part in expected() if part not in found or (on_each_day and _NOT_ON_EACH in found[part])]
    gone.sort(key=lambda part: not part.startswith("table "))
    if gone:
        raise SchemaMismatch(
            f"this database is not whole: {gone[0]} is missing" + (f", and {len(gone) - 1} more" if gone[1:] else ""),
            hint="wait for the restore to end; if it has failed, drop the database and restore it again, with "
            "--exit-on-error. hookledger audit names all that is missing",
        )


async def _calls(database: Database) -> list[SchemaFault]:
    """What is called by a part of the schema, or by our statements, and is neither ours nor PostgreSQL's."""
    async with database.connection(seconds=_SECONDS) as connection:
        rows = await connection.fetch(_CALLS, _CALLED, _IN_SQL)
    return [SchemaFault(row["part"], row["detail"]) for row in rows]


@cache
def expected() -> dict[str, str]:
    """The lines of a fresh schema."""
    return dict(line.split("\t") for line in _EXPECTED.read_text(encoding="utf-8").splitlines())


def _differs(part: str, found: str, line: str) -> str:
    if part.startswith("function "):
        return "it is not that of this version: its text, or how it is called, was changed"
    return f"it is {found}, and in this version {line}"


def _is_in_the_way(part: str) -> bool:
    """True unless it is a table, view or function of somebody's own, or something that belongs to one."""
    kind, _, name = part.partition(" ")
    if kind == "function":  # one of our names with other parameters may be called in the place of ours
        return name.partition("(")[0] in {each[9:].partition("(")[0] for each in expected() if each.startswith(kind)}
    return kind not in ("table", "index") and _table_of(part) in expected()


def _table_of(part: str) -> str:
    """The part that is the table to which this one belongs."""
    return f"table {part.partition(' ')[2].partition('.')[0].removesuffix('_DAY')}"
