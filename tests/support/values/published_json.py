"""JSON objects as producers may write them: every kind of number and escape, any order, blanks and repeated keys."""

import json
import random

from hypothesis import strategies as st

NUMBERS = (
    "0", "-0", "-0.0", "0.0", "1", "-1", "7", "19.90", "1.10", "0.10", "100.00", "1e5", "1E+2", "1e-7", "-1.50E-3", "1E400", "-1e400",
    "123456789012345678.123456789", "9007199254740993", "18446744073709551616", "123456789012345678901234567890", "0.1e1", "0.0000001",
    "999999999999999999", "-999999999999999999", "1000000000000000000", "12345678901234567", "1e99999999999999999999",
)  # fmt: skip
STRINGS = (
    '""', '"a"', '"é"', '"\\u00e9"', '"\\u00E9"', '"\\/"', '"/"', '"\\""', '"\\\\"', '"\\\\u0041"', '"\\n\\t\\r\\b\\f"', '"\\u000a"', '"\\u001F"',
    '"\\ud83e\\ude9d"', '"🪝"', '"\\ud83d"', '"\\udc00 x"', '"{"', '"]"', '",:"', '"%s {} %"', '"\\u2028"', '"\x7f"', '"日本語 עברית"', '"</script>"',
)  # fmt: skip
KEYS = ('"a"', '"b"', '"\\u0061"', '"é"', '"\\u00e9"', '""', '"a b"', '"\\""', '"total"', '"__proto__"')
BLANKS = ("", "", "", " ", "\t", "\n", "\r\n  ")

# What PostgreSQL's jsonb does not take: a number beyond numeric, half a character.
NOT_IN_JSONB = ('"\\ud83d"', '"\\udc00 x"', "1e99999999999999999999")


def seeded_object(seed: int, *, without: tuple[str, ...] = ()) -> str:
    """An object that depends on the seed alone."""
    chance = random.Random(seed)
    numbers = [number for number in NUMBERS if number not in without]
    strings = [string for string in STRINGS if string not in without]

    def value(depth: int) -> str:
        kind = chance.random()
        if kind < 0.35:
            return chance.choice(numbers)
        if kind < 0.65 or depth > 4:
            return chance.choice(strings)
        if kind < 0.72:
            return chance.choice(("true", "false", "null"))
        return array(depth) if kind < 0.85 else object_(depth)

    def blank() -> str:
        return chance.choice(BLANKS)

    def array(depth: int) -> str:
        parts = [f"{blank()}{value(depth + 1)}{blank()}" for _ in range(chance.randrange(4))]
        return f"[{','.join(parts) or blank()}]"

    def object_(depth: int) -> str:
        parts = [
            f"{blank()}{chance.choice(KEYS)}{blank()}:{blank()}{value(depth + 1)}{blank()}"
            for _ in range(chance.randrange(1 if depth else 3, 6))
        ]
        return f"{{{','.join(parts)}}}"

    return object_(0)


objects = st.integers(0, 2**64).map(seeded_object) | st.dictionaries(
    st.text(max_size=3), st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=4
).map(json.dumps)
