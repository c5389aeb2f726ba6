"""What was published is what is sent, to the byte: a thousand documents with every kind of number, escape, order and
repeated key, by every way of publishing, with and without a selection of the snapshot and a transform that only picks.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import pytest

from daemon.core.routing.route import PayloadOptions
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.processes.cli import CommandLine
from tests.support.receivers.receiver import receiver
from tests.support.values.published_json import NOT_IN_JSONB, seeded_object
from tests.support.web.application import App, app

DOCUMENTS = 1_020
SELECTION = (("customer", None), ("orders", ("total", "é")))

ROUTES = {
    "/whole": PayloadOptions(),
    "/selected": PayloadOptions(snapshot=SELECTION),
    "/transformed": PayloadOptions(snapshot=SELECTION, transform="@"),
    "/picked": PayloadOptions(transform="data.object"),
}


@dataclass(frozen=True, slots=True)
class Document:
    """An event whose parts are `text`. `selected` is what the selection keeps of its snapshot."""

    id: str
    text: str

    @property
    def snapshot(self) -> str:
        return f'{{"other": 1,"customer" : {self.text},"orders":[{{"total":19.90,"x":{self.text}, "\\u00e9" : {self.text}}}]}}'

    @property
    def selected(self) -> str:
        return f'{{"customer":{self.text},"orders":[{{"total":19.90,"\\u00e9":{self.text}}}]}}'

    @property
    def line(self) -> bytes:
        return (
            f'{{"tenant":"acme","type":"order.create","id":"{self.id}", "data":{self.text},"context": {self.text},'
            f'"snapshot":{self.snapshot}}}'
        ).encode()

    def body(self, created: str, snapshot: str) -> str:
        return (
            f'{{"id":"{self.id}","type":"order.create","created":{created},"data":{{"object":{self.text}}},'
            f'"context":{self.text},"snapshot":{snapshot}}}'
        )


def document(way: str, number: int, *, without: tuple[str, ...] = ()) -> Document:
    """On one line, since the lines of NDJSON are."""
    text = seeded_object(number, without=without).replace("\r", " ").replace("\n", " ")
    return Document(id=f"{way}-{number}", text=text)


async def over_http(served: App, documents: list[Document]) -> None:
    for each in documents:
        answer = await served.ask("POST", "/v1/events", data=each.line, headers={"Content-Type": "application/json"})
        assert answer.status == 202, (answer.text, each.text)


async def as_lines(served: App, documents: list[Document]) -> None:
    lines = b"\n".join(each.line for each in documents)
    answer = await served.ask("POST", "/v1/events", data=lines, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json["accepted"] == len(documents), answer.text


async def on_the_command_line(hookledger: CommandLine, documents: list[Document]) -> None:
    lines = b"\n".join(each.line for each in documents)
    ended = await asyncio.to_thread(hookledger, "publish", "--json", stdin=lines)
    assert ended.json["accepted"] == len(documents), ended.err


async def as_one_statement(it: PipelineProcess, documents: list[Document]) -> None:
    events = [
        NewEvent(
            tenant="acme",
            id=each.id,
            type="order.create",
            data=each.text.encode(),
            context=each.text.encode(),
            snapshot=each.snapshot.encode(),
        )
        for each in documents
    ]
    assert all(await domain_events.publish(it.database, events))


async def as_text_in_sql(it: PipelineProcess, documents: list[Document]) -> None:
    async with it.database.transaction(seconds=30) as connection:
        for each in documents:
            await connection.execute(
                "SELECT hookledger.publish(tenant => 'acme', type => 'order.create', id => $1, data => $2::text,"
                " context => $2::text, snapshot => $3::text)",
                *(each.id, each.text, each.snapshot),
            )


async def as_jsonb_in_sql(it: PipelineProcess, documents: list[Document]) -> list[Document]:
    """The documents as jsonb has them, which PostgreSQL writes in its own way before we see them."""
    kept = []
    async with it.database.transaction(seconds=30) as connection:
        for each in documents:
            text = await connection.fetchval("SELECT $1::text::jsonb::text", each.text)
            await connection.execute(
                "SELECT hookledger.publish(tenant => 'acme', type => 'order.create', id => $1, data => $2::text::jsonb,"
                " context => $2::text::jsonb, snapshot => $3::text::jsonb)",
                *(each.id, each.text, each.snapshot),
            )
            kept.append(Document(id=each.id, text=text))
    return kept


@pytest.mark.parametrize("seed", [20_261_128])
async def test_what_was_published_is_what_is_sent(database_url: str, hookledger: CommandLine, seed: int) -> None:
    share = DOCUMENTS // 6
    numbers = range(seed, seed + share)
    ways = ("http", "lines", "command", "statement", "text")
    batches = {way: [document(way, number) for number in numbers] for way in ways}
    async with receiver() as there, app(database_url) as served, pipeline_process(database_url) as it:
        for path, options in ROUTES.items():
            await it.route(there.url + path, payload=options)
        await over_http(served, batches["http"])
        await as_lines(served, batches["lines"])
        await on_the_command_line(hookledger, batches["command"])
        await as_one_statement(it, batches["statement"])
        await as_text_in_sql(it, batches["text"])
        batches["jsonb"] = await as_jsonb_in_sql(it, [document("jsonb", n, without=NOT_IN_JSONB) for n in numbers])
        it.pipeline.hurry()
        received = await there.count(len(ROUTES) * DOCUMENTS, seconds=100)
        await it.until_accounted()
    documents = {each.id: each for batch in batches.values() for each in batch}
    assert len(documents) == DOCUMENTS
    bodies = {path: [got.body.decode() for got in received if got.path == path] for path in ROUTES}
    picked = sorted(bodies.pop("/picked"))
    assert picked == sorted(each.text for each in documents.values())
    for path, sent in bodies.items():
        assert len(sent) == DOCUMENTS, path
        for body in sent:
            found = re.match(r'\{"id":"([^"]+)","type":"order\.create","created":([0-9]+),', body)
            assert found is not None, (path, body)
            each = documents[found[1]]
            snapshot = (
                "{}" if path == "/whole" else selected_by_jsonb(each) if each.id.startswith("jsonb") else each.selected
            )
            assert body == each.body(found[2], snapshot), (path, each.text)


def selected_by_jsonb(each: Document) -> str:
    """jsonb has decoded the name é, sorted the keys by length, and put a blank after each colon and comma."""
    return f'{{"customer":{each.text},"orders":[{{"é":{each.text},"total":19.90}}]}}'
