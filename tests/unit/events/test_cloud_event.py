"""CloudEvents become events: each example of the specification, and each way to be wrong."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from daemon.core.events.cloud_event import Converted, NotACloudEvent, binary, elements, header_value, structured

EXTENSIONS = {"comexampleextension1": "value", "comexampleothervalue": 5}
BASE: dict[str, Any] = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "id": "A234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    **EXTENSIONS,
}
THRIFT = {"datacontenttype": "application/vnd.apache.thrift.binary"}
XML = '<much wow="xml"/>'
# The examples of the specification's JSON format (section 3.2): attributes, data, and what `data` becomes. The
# specification writes "... base64 encoded string ..." where bytes stand here.
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any], object]] = {
    "binary": (THRIFT, {"data_base64": "AAEC/w=="}, {"data_base64": "AAEC/w=="}),
    "XML": ({"datacontenttype": "application/xml", "unsetextension": None}, {"data": XML}, {"data": XML}),
    "object": (
        {"datacontenttype": "application/json", "subject": None},
        {"data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True}},
        {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True},
    ),
    "string": ({"subject": None}, {"data": "I'm just a string"}, {"data": "I'm just a string"}),
}
# The same as messages of the binary mode: content type and body.
BODIES: dict[str, tuple[str, bytes]] = {
    "binary": (THRIFT["datacontenttype"], b"\x00\x01\x02\xff"),
    "XML": ("application/xml", XML.encode()),
    "object": ("application/json", b'{\n  "appinfoA" : "abc",\n  "appinfoB" : 123,\n  "appinfoC" : true\n}\n'),
    "string": ("application/json", b'"I\'m just a string"'),
}


def read(made: Converted) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(made.text)
    return value


def event(**changes: object) -> dict[str, Any]:
    """The event of a CloudEvent with these changes; what is None is left out."""
    value = {name: each for name, each in (BASE | changes).items() if each is not ...}
    return read(structured(json.dumps(value).encode(), tenant="acme"))


def wrong(raw: object, **options: Any) -> dict[str, str]:
    """Attribute → message."""
    with pytest.raises(NotACloudEvent) as caught:
        structured(raw if isinstance(raw, bytes) else json.dumps(raw).encode(), **options)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_attributes_become_fields_and_the_others_stand_in_the_context() -> None:
    assert event() == {
        "type": "com.example.someevent",
        "id": "A234-1234-1234",
        "occurred_at": "2018-04-05T17:31:00Z",
        "data": {},
        "context": {"source": "/mycontext", **EXTENSIONS},
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_json_format(name: str) -> None:
    attributes, data, expected = EXAMPLES[name]
    made = event(**attributes, **data)
    assert made["data"] == expected
    given = {key: each for key, each in attributes.items() if each is not None}
    assert made["context"] == {"source": "/mycontext", **EXTENSIONS, **given}


@pytest.mark.parametrize("name", BODIES)
def test_the_same_examples_with_headers(name: str) -> None:
    content_type, body = BODIES[name]
    headers = {key: str(each) for key, each in BASE.items()}
    made = read(binary(headers, body, content_type=content_type, tenant="acme"))
    assert made["data"] == EXAMPLES[name][2]
    assert made["context"]["datacontenttype"] == content_type
    assert made["context"]["comexampleothervalue"] == "5"


def test_the_tenant_is_the_extension_then_that_of_the_token_then_the_subject() -> None:
    one = json.dumps(BASE | {"tenant": "t1", "subject": "s1"}).encode()
    assert read(structured(one))["tenant"] == "t1"
    assert read(structured(one))["context"]["subject"] == "s1"
    two = json.dumps(BASE | {"subject": "s1"}).encode()
    assert "tenant" not in read(structured(two, tenant="acme"))
    assert read(structured(two, tenant="acme"))["context"]["subject"] == "s1"
    assert read(structured(two))["tenant"] == "s1"
    assert "subject" not in read(structured(two))["context"]


def test_json_keeps_its_bytes() -> None:
    raw = (
        b'{"specversion":"1.0","id":"1","source":"/s","type":"a.b","data": {"n": 1.10,  "big":123456789012345678901} }'
    )
    assert b'"data":{"n": 1.10,  "big":123456789012345678901},' in structured(raw).text
    body = b'{"n": 1.10,  "big":123456789012345678901}'
    headers = {"specversion": "1.0", "id": "1", "source": "/s", "type": "a.b"}
    assert b'"data":' + body + b"," in binary(headers, body, content_type="application/json").text


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/vnd.x+json; charset=utf-8", b'\xef\xbb\xbf {"a":1} ', {"a": 1}),
        ("", b"[1,2]", {"data": [1, 2]}),
        ("text/plain", "Grüße".encode(), {"data": "Grüße"}),
        ("text/plain; charset=latin-1", "Grüße".encode("latin-1"), {"data_base64": "R3L832U="}),
        ("application/atom+xml", b"<a/>", {"data": "<a/>"}),
        ("image/png", b"\x89PNG", {"data_base64": "iVBORw=="}),
        ("application/json", b"", {}),
    ],
)
def test_data_of_any_type_becomes_an_object(content_type: str, body: bytes, expected: object) -> None:
    headers = {"specversion": "1.0", "id": "1", "source": "/s", "type": "a.b"}
    assert read(binary(headers, body, content_type=content_type))["data"] == expected


def test_base64_of_json_is_read_as_json_and_null_is_a_value() -> None:
    encoded = base64.b64encode(b'{"a":1}').decode()
    assert event(data_base64=encoded, datacontenttype="application/json")["data"] == {"a": 1}
    assert event(data=None)["data"] == {"data": None}
    assert event(data={"a": 1}, data_base64=None)["data"] == {"a": 1}


def test_header_values_are_unquoted_and_percent_decoded() -> None:
    headers = {"specversion": "1.0", "id": "1", "source": "/s%20t", "type": "a.b"}
    more = {"eurosign": "Euro%20%E2%82%AC%20%F0%9F%98%80", "quoted": '"a \\"b\\" c"', "half": '"', "tab": "a%09b"}
    meant = {name: header_value(text) for name, text in (headers | more).items()}
    context = read(binary(meant, b"", content_type=""))["context"]
    assert context == {"source": "/s t", "eurosign": "Euro € 😀", "quoted": 'a "b" c', "half": '"', "tab": "a\tb"}


@pytest.mark.parametrize(
    ("changes", "attribute", "part"),
    [
        ({"specversion": ...}, "specversion", "is missing"),
        ({"specversion": "0.3"}, "specversion", 'must be "1.0"'),
        ({"specversion": 1.0}, "specversion", 'must be "1.0"'),
        ({"id": ...}, "id", "is missing"),
        ({"source": ...}, "source", "is missing"),
        ({"source": ""}, "source", "not empty"),
        ({"source": None}, "source", "is missing"),
        ({"type": 5}, "type", "must be a string"),
        ({"time": 5}, "time", "must be a string"),
        ({"MyExtension": "x"}, "MyExtension", "only a-z and 0-9"),
        ({"my_extension": "x"}, "my_extension", "only a-z and 0-9"),
        ({"extension": {"a": 1}}, "extension", "must be a string, a whole number, true or false"),
        ({"extension": 1.5}, "extension", "must be a string, a whole number, true or false"),
        ({"data": 1, "data_base64": "AA=="}, "data_base64", "one of the two"),
        ({"data_base64": "%%%"}, "data_base64", "Base64"),
        ({"data_base64": 5}, "data_base64", "Base64"),
        ({"data_base64": "e30x", "datacontenttype": "application/json"}, "data", "not valid JSON"),
    ],
)
def test_what_is_wrong_is_said_of_the_attribute(changes: dict[str, Any], attribute: str, part: str) -> None:
    given = {name: each for name, each in (BASE | changes).items() if each is not ...}
    found = wrong(given)
    assert set(found) == {attribute}
    assert part in found[attribute]


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", "nested too deeply"),
        (b'"\xff"', "not valid JSON: it is not UTF-8"),
    ],
)
def test_what_is_no_object_is_refused(raw: bytes, part: str) -> None:
    assert part in wrong(raw)[""]


def test_an_attribute_twice_is_refused_by_its_name() -> None:
    assert wrong(b'{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"a.b"}') == {
        "id": "is given more than once"
    }


def test_a_batch_is_split_without_changing_a_byte() -> None:
    assert [*elements(b' [ {"a": 1.10} ,[1,\n2],"x,]" ] \n')] == [b'{"a": 1.10}', b"[1,\n2]", b'"x,]"']
    assert [*elements(b"\xef\xbb\xbf[]")] == []


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{}", b"[", b"[1", b"[1,", b"[1,]", b"[,1]", b"[1 2]", b"[1] 2", b"[1]]", b'["\xff"]', b"[{]}",
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_array_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        [*elements(raw)]
