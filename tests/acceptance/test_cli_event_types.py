"""`hookledger event-types`, and the effect of strict types on `publish` and `routes`."""

import json

import pytest

from tests.support.processes.cli import CommandLine

TYPES = [
    {"name": "order.create", "description": "An order is placed.", "example": {"data": {"id": 1}}},
    {"name": "cart.create"},
]


def loaded(hookledger: CommandLine) -> list[str]:
    return [each["name"] for each in hookledger("event-types", "list", "--json").json]


def test_a_file_is_loaded_and_listed(hookledger: CommandLine) -> None:
    assert "the catalogue is empty" in hookledger("event-types", "list").out
    assert hookledger("event-types", "load", "-", stdin=json.dumps(TYPES)).out == (
        "the catalogue has 2 event types now: 2 added, 0 changed, 0 removed\n"
    )
    listed = hookledger("event-types", "list", "--json").json
    assert [(each["name"], each["group"], each["is_catalogued"]) for each in listed] == [
        ("cart.create", "cart", True),
        ("order.create", "order", True),
    ]
    assert listed[1]["example"] == {"data": {"id": 1}, "context": {}, "snapshot": {}}
    assert "An order is placed." in hookledger("event-types", "list").out
    assert [each["name"] for each in hookledger("event-types", "list", "--group", "cart", "--json").json] == [
        "cart.create"
    ]
    assert "no event type is of the group shop" in hookledger("event-types", "list", "--group", "shop").out


def test_the_body_of_the_api_is_a_file_too(hookledger: CommandLine) -> None:
    body = hookledger.home / "types.json"
    body.write_text(json.dumps({"event_types": TYPES}))
    assert hookledger("event-types", "load", str(body), "--json").json == {
        "event_types": 2,
        "added": 2,
        "changed": 0,
        "removed": 0,
    }


def test_a_file_of_an_editor_that_writes_a_byte_order_mark_is_one_too(hookledger: CommandLine) -> None:
    marked = b"\xef\xbb\xbf" + json.dumps(TYPES, indent=1).replace("\n", "\r\n").encode()
    assert hookledger("event-types", "load", "-", "--json", stdin=marked).json["added"] == 2


def test_a_list_is_a_file_too(hookledger: CommandLine) -> None:
    hookledger("event-types", "load", "-", stdin=json.dumps(TYPES))
    listed = hookledger("event-types", "list", "--json").out
    loaded_again = hookledger("event-types", "load", "-", "--json", stdin=listed).json
    assert loaded_again == {"event_types": 2, "added": 0, "changed": 0, "removed": 0}


def test_the_sample_is_a_catalogue(hookledger: CommandLine) -> None:
    assert hookledger("event-types", "load", "--sample", "--json").json["event_types"] == 33
    assert "order.reminder" in loaded(hookledger)


def test_types_go_only_if_that_is_confirmed(hookledger: CommandLine) -> None:
    file = hookledger.home / "types.json"
    file.write_text(json.dumps([{"name": "order.create"}, {"name": "order.cancel"}]))
    hookledger("event-types", "load", "-", stdin=json.dumps(TYPES))

    piped = hookledger("event-types", "load", "-", stdin=file.read_text(), code=1).err.splitlines()
    assert piped == [
        "1 event type is not in this list, and would go: cart.create",
        "error: nothing was changed",
        "try: pass --yes: the list came by the standard input",
    ]
    for typed in ("", "replace\n"):
        refused = hookledger("event-types", "load", str(file), stdin=typed, code=1)
        assert "\nerror: nothing was " in refused.err
        assert loaded(hookledger) == ["cart.create", "order.create"]

    asked = hookledger("event-types", "load", str(file), stdin="REPLACE\n")
    assert asked.out == "the catalogue has 2 event types now: 1 added, 1 changed, 1 removed\n"
    assert loaded(hookledger) == ["order.cancel", "order.create"]
    again = hookledger("event-types", "load", "-", "--yes", "--json", stdin=json.dumps(TYPES[:1]))
    assert (again.err, again.json) == ("", {"event_types": 1, "added": 0, "changed": 1, "removed": 1})


@pytest.mark.parametrize(
    ("arguments", "text", "message", "code"),
    [
        (("-",), "[", "error: the file is not valid JSON", 1),
        (("-",), b'["\xff"]', "error: the file is not valid JSON: it is not UTF-8", 1),
        (("-",), "1", "error: the file must be a JSON object or list", 1),
        (("-",), '{"event_types":[],"event_types":[]}', "error: event_types: is given more than once", 2),
        (("-",), '[{"name":"a.b","name":"a.c"}]', "error: name: is given more than once", 2),
        (
            ("-",),
            '[{"name":"A"},{"nmae":"a.b"}]',
            "error: event_types.1.nmae: is not a field of this request: did you mean name?",
            2,
        ),
        (("-",), '[{"name":"A"},{"name":"B"}]', "error: event_types.1.name: must be object.action", 2),
        ((), "", "error: give a file, or --sample", 2),
        (("-", "--sample"), "[]", "error: give a file, or --sample", 2),
        (("no-such-file",), "", "no-such-file", 2),
    ],
)
def test_a_file_that_is_none_changes_nothing(
    hookledger: CommandLine, arguments: tuple[str, ...], text: str | bytes, message: str, code: int
) -> None:
    hookledger("event-types", "load", "-", stdin=json.dumps(TYPES))
    ended = hookledger("event-types", "load", *arguments, stdin=text, code=code)
    assert message in ended.err
    assert loaded(hookledger) == ["cart.create", "order.create"]


def test_strict_types_hold_for_the_command_line(hookledger: CommandLine) -> None:
    hookledger("event-types", "load", "-", stdin=json.dumps(TYPES))
    strict = CommandLine(
        hookledger.home, hookledger.environment["HOOKLEDGER_DATABASE__URL"], HOOKLEDGER_EVENTS__STRICT_TYPES="true"
    )
    lines = "\n".join(
        json.dumps({"tenant": "acme", "type": kind, "data": {}}) for kind in ("order.create", "order.crate")
    )
    ended = strict("publish", "--json", stdin=lines, code=1)
    assert ended.json == {"accepted": 1, "duplicates": 0, "rejected": 1}
    assert "line 2: type: order.crate is not in the catalogue of event types: did you mean order.create?" in ended.err
    assert hookledger("publish", "--json", stdin=lines).json["rejected"] == 0

    given = ("--tenant", "acme", "--name", "a", "--target-url", "https://shop.example/hook")
    ended = strict("routes", "create", *given, "-e", "order.crate", code=2)
    assert "error: --event-type: order.crate is not in the catalogue" in ended.err
    strict("routes", "create", *given, "-e", "order.create", "-e", "order.*")
