"""The alerts about sources fire when a broker is away and when a message is no event, and stop when that is over."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.faults.alerting import Watched, gauge
from tests.support.faults.system_under_test import SystemUnderTest, system_under_test
from tests.support.kafka.topics import Kafka, event_text

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool evaluates the rules")

FAULTY = "hookledger_source_faulty"
MESSAGES = "hookledger_source_messages_total"


@pytest_asyncio.fixture
async def system(database_url: str, tmp_path: Path) -> AsyncIterator[SystemUnderTest]:
    async with system_under_test(database_url, tmp_path) as it:
        yield it


def shop(brokers: str, topic: str) -> dict[str, str]:
    return {"HOOKLEDGER_SOURCES__SHOP__BROKERS": brokers, "HOOKLEDGER_SOURCES__SHOP__TOPICS": topic}


async def test_a_broker_that_is_away(system: SystemUnderTest, kafka: Kafka) -> None:
    watched, topic = Watched(system), await kafka.topic()
    async with system.daemon(**shop("127.0.0.1:1", topic)):
        await watched.until(lambda found: gauge(found, FAULTY) == 1)
        await watched.wrong()
    async with system.daemon(**shop(kafka.address, topic)):
        await kafka.send(topic, event_text(1))
        await watched.until(lambda found: gauge(found, MESSAGES) == 1)
        await watched.until(lambda found: gauge(found, FAULTY) == 0)
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerSourceFaulty")


async def test_a_message_that_is_no_event(system: SystemUnderTest, kafka: Kafka) -> None:
    watched, topic = Watched(system), await kafka.topic()

    async def refused() -> None:
        await kafka.send(topic, b"no event")
        await watched.until(lambda found: gauge(found, MESSAGES) == 1)

    async with system.daemon(**shop(kafka.address, topic)):
        await watched.wrong(meanwhile=refused())
        await watched.afterwards()
    watched.assert_fired_and_stopped("HookledgerMessagesRefused")
