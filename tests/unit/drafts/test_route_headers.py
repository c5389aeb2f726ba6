"""The rules for custom headers, with a literal copy of the reserved names."""

import pytest

from daemon.core.drafts.route_headers import HeaderFault, check_headers

RESERVED = [
    "Host",
    "content-length",
    "Content-Type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "proxy-authorization",
    "proxy-connection",
    "cookie",
    "user-agent",
    "accept-encoding",
    "traceparent",
    "tracestate",
    "baggage",
    "OrderGroove-Signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "webhook-anything",
    "hookledger-test",
    "hookledger-anything",
    "hookledger-anything",
    "x-amz-target",
    "X-Amzn-Trace-Id",
    "x-goog-metadata-request",
    "x-aws-ec2-metadata-token",
    "x-aws-ec2-metadata-token-ttl-seconds",
    "metadata",
    "Metadata-Flavor",
]


def faults(
    headers: dict[str, str], signing_header: str = "OrderGroove-Signature"
) -> list[tuple[str | None, HeaderFault]]:
    return [(problem.name, problem.fault) for problem in check_headers(headers, signing_header=signing_header)]


def test_ordinary_headers_are_fine() -> None:
    headers = {
        "Authorization": "Bearer abc",
        "X-Shop": "a\tb ~!",
        "x_y.z": "",
        "A" * 64: "v" * 4096,
        "!#$%&'*+-.^_`|~": "1",
    }
    assert faults(headers) == []


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_header_is_refused_in_any_case(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        assert faults({spelling: "x"}) == [(spelling, HeaderFault.NAME_RESERVED)]


def test_the_installations_own_signature_header_is_reserved_and_so_is_the_default_one() -> None:
    assert faults({"x-sig": "1"}, "X-Sig") == [("x-sig", HeaderFault.NAME_RESERVED)]
    assert faults({"ordergroove-signature": "1"}, "X-Sig") == [("ordergroove-signature", HeaderFault.NAME_RESERVED)]
    assert faults({"x-sig": "1"}) == []


@pytest.mark.parametrize("name", ["", "X Y", "X:Y", "X\r\nY", "Ü", "a\n", "A" * 65, "x\0", "(x)", '"x"', "Ｘ"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    assert faults({name: "x"}) == [(name, HeaderFault.NAME_SYNTAX)]


@pytest.mark.parametrize("value", ["a\r\nHost: b", "a\n", "\r", "ü", "\0", "\x7f", "\x85", "\u2028", "😀"])
def test_a_value_with_anything_but_visible_ascii_space_and_tab_is_refused_and_not_repeated(value: str) -> None:
    [problem] = check_headers({"X-A": f"secret{value}"}, signing_header="S")
    assert problem.fault is HeaderFault.VALUE_SYNTAX
    assert "secret" not in problem.message


def test_a_value_may_have_4096_characters_and_not_one_more() -> None:
    assert faults({"X-A": "a" * 4096}) == []
    assert faults({"X-A": "a" * 4097}) == [("X-A", HeaderFault.VALUE_TOO_LONG)]


def test_twenty_headers_are_allowed_and_not_one_more() -> None:
    assert faults({f"X-{number}": "" for number in range(20)}) == []
    assert faults({f"X-{number}": "" for number in range(21)}) == [(None, HeaderFault.TOO_MANY)]


def test_the_same_name_in_two_cases_is_one_header_too_many() -> None:
    assert faults({"X-A": "1", "x-a": "2"}) == [("x-a", HeaderFault.NAME_TWICE)]


def test_all_problems_are_reported_at_once() -> None:
    headers = {"Host": "a\nb", "X Y": "c" * 5000}
    assert faults(headers) == [
        ("Host", HeaderFault.NAME_RESERVED),
        ("Host", HeaderFault.VALUE_SYNTAX),
        ("X Y", HeaderFault.NAME_SYNTAX),
        ("X Y", HeaderFault.VALUE_TOO_LONG),
    ]
