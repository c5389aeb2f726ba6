"""Random JMESPath expressions: well-formed ones from the grammar, and sequences of random tokens."""

from hypothesis import strategies as st

FUNCTIONS = (
    "abs", "avg", "ceil", "floor", "join", "keys", "length", "map", "max", "max_by", "merge", "min", "min_by", "not_null",
    "reverse", "sort", "sort_by", "starts_with", "sum", "to_array", "to_number", "to_string", "type", "values", "contains",
    "ends_with", "no_such_function",
)  # fmt: skip
LITERALS = (
    "`1`", "`0`", "`null`", "`true`", "`[]`", "`{}`", "`1e999`", "`-1e999`", "`[1,2]`", '`{"a":1}`', '`"\\ud800"`', "'x'",
    "''", "`" + "9" * 400 + "`", "`1.5`", "'nan'", "'inf'", "'" + "9" * 400 + "'",
)  # fmt: skip
NAMES = ("id", "type", "data", "object", "context", "snapshot", "created", "a", "b", '"\\ud800"', '"é"')

leaves = st.sampled_from((*NAMES, *LITERALS, "@", "*", "[]", "[*]", "[0]", "[-1]", "[::2]", "[::0]", "[1:]"))


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(inner, st.sampled_from([".", " | ", " || ", " && ", " == ", " < ", " != "]), inner).map("".join),
        st.tuples(inner, st.sampled_from(["[]", "[*]", "[0]", "[::-1]", "[::0]", ".*", "[99999999999999999999]"])).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"{pair[0]}[?{pair[1]}]"),
        inner.map(lambda text: f"!({text})"),
        inner.map(lambda text: f"&{text}"),
        several.map(lambda parts: f"[{','.join(parts)}]"),
        several.map(lambda parts: "{" + ",".join(f"k{n}: {part}" for n, part in enumerate(parts)) + "}"),
        st.tuples(st.sampled_from(FUNCTIONS), st.lists(inner | inner.map("&{}".format), max_size=3)).map(
            lambda call: f"{call[0]}({','.join(call[1])})"
        ),
    )  # fmt: skip


well_formed = st.recursive(leaves, _grown, max_leaves=8)
soup = st.lists(
    st.sampled_from([*"abc.*[]{}()&|!@?:,`'\"<>=019- \\", "[?", "||", "sort_by(", "map(&"]), max_size=12
).map("".join)
expressions = well_formed | soup | st.text(max_size=8)
