"""aiokafka, as far as we use it: how a source connects, and what went wrong in a sentence that names the key to set.

The one thing to know: the library is an extra and has no types. It is imported here alone, when there is a source, and
what is used of it is written down as protocols.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Protocol

from daemon import __version__
from daemon.config.event_sources import SourceSection, group_of
from daemon.core.messages.message import SourceMessage
from daemon.core.messages.reading import MAX_MAPPED_SIZES
from daemon.runtime.tasks import TaskGroup
from daemon.sources.kafka import codecs

CONNECT_SECONDS = 10.0
# Beside the time to connect: what keeps brokers from it is told after 15 s.
CAUSE_SECONDS = 5.0
CLOSE_SECONDS = 5.0
# A broker answers a fetch of nothing after this time: it is what an idle source costs.
_FETCH_WAIT_MS = 2000
# The library's own loops look around so often; what matters wakes them.
_LOOK_AROUND_MS = 2000
_REQUEST_MS = 15_000
_FETCH_BYTES = 1 << 20


class SourceFault(Exception):
    """What keeps a source from being taken, as a sentence with the key to set. It is tried again."""


class ExtraMissing(Exception):
    """The library is not installed."""

    def __init__(self) -> None:
        super().__init__("sources of events need the client of Kafka, which is not installed")
        self.hint = "pip install 'hookledger[kafka]', or remove [sources.…] from the configuration"


class PartitionPlace(Protocol):
    """What aiokafka calls a TopicPartition. Equal ones are one key."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...


class MessageConsumer(Protocol):
    """What we use of aiokafka's AIOKafkaConsumer."""

    async def getmany(
        self, *partitions: PartitionPlace, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[PartitionPlace, Sequence[SourceMessage]]: ...
    def assign(self, partitions: Sequence[PartitionPlace]) -> None: ...
    def assignment(self) -> Collection[PartitionPlace]: ...
    def subscribe(self, topics: Sequence[str], *, listener: object = None) -> None: ...
    def unsubscribe(self) -> None: ...
    def seek(self, partition: PartitionPlace, offset: int) -> None: ...
    def pause(self, *partitions: PartitionPlace) -> None: ...
    def resume(self, *partitions: PartitionPlace) -> None: ...
    async def position(self, partition: PartitionPlace) -> int: ...
    def highwater(self, partition: PartitionPlace) -> int | None: ...
    def last_poll_timestamp(self, partition: PartitionPlace) -> int | None: ...
    def partitions_for_topic(self, topic: str) -> Collection[int] | None: ...
    async def topics(self) -> Collection[str]: ...
    async def beginning_offsets(self, partitions: Collection[PartitionPlace]) -> Mapping[PartitionPlace, int]: ...
    async def end_offsets(self, partitions: Collection[PartitionPlace]) -> Mapping[PartitionPlace, int]: ...
    async def commit(self, offsets: Mapping[PartitionPlace, int]) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def require() -> None:
    """Raises ExtraMissing if the library is not installed."""
    if find_spec("aiokafka") is None:
        raise ExtraMissing


class KafkaClient:
    """Connections for one source, whose events have `max_bytes` at most."""

    def __init__(self, name: str, section: SourceSection, *, max_bytes: int) -> None:
        require()
        codecs.limit(codecs.LEAST_LIMIT_BYTES + max_bytes * MAX_MAPPED_SIZES)
        self._library: ModuleType = import_module("aiokafka")
        # It tells of each broken connection again and again, where nobody has asked; what it raises is told once.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._errors: ModuleType = import_module("aiokafka.errors")
        self._name = name
        self._section = section

    def place(self, topic: str, partition: int) -> PartitionPlace:
        """A partition as the library names it."""
        found: PartitionPlace = self._library.TopicPartition(topic, partition)
        return found

    @asynccontextmanager
    async def consumer(self, *, in_group: bool) -> AsyncIterator[MessageConsumer]:
        """A connected consumer, in the group of the source or alone. Raises SourceFault."""
        consumer: MessageConsumer = self._library.AIOKafkaConsumer(
            **self._access(),
            group_id=group_of(self._name, self._section) if in_group else None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=_FETCH_WAIT_MS if in_group else 200,
            max_partition_fetch_bytes=_FETCH_BYTES,
            consumer_timeout_ms=_LOOK_AROUND_MS,
        )
        try:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await consumer.start()
            except Exception as error:  # whatever the library makes of answers that are none of a broker
                raise SourceFault(await self._cause(error)) from error
            yield consumer
        finally:
            with suppress(Exception):  # whatever the library makes of a lost connection: it is closed
                async with asyncio.timeout(CLOSE_SECONDS):
                    await consumer.stop()

    def listener(
        self,
        on_revoked: Callable[[Collection[PartitionPlace]], object],
        on_assigned: Callable[[Collection[PartitionPlace]], object],
    ) -> object:
        """Two coroutine functions as the library takes them."""
        base: type = self._library.ConsumerRebalanceListener
        methods = {
            "on_partitions_revoked": lambda _self, revoked: on_revoked(revoked),
            "on_partitions_assigned": lambda _self, assigned: on_assigned(assigned),
        }
        return type("Listener", (base,), methods)()

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What a call of the library raises if a broker fails or refuses."""
        kafka_error: type[Exception] = self._errors.KafkaError
        return (kafka_error, OSError, TimeoutError)

    def places_out_of_range(self, error: Exception) -> Collection[PartitionPlace] | None:
        """The partitions that have nothing at the position that was asked for, None for another error."""
        if isinstance(error, self._errors.OffsetOutOfRangeError):
            return list(error.args[0])
        return None

    def is_of_no_position(self, error: Exception) -> bool:
        """Whether a partition had no position yet."""
        return isinstance(error, self._errors.NoOffsetForPartitionError)

    def is_of_single_partitions(self, error: Exception) -> bool:
        """Whether all is well with the others."""
        return self.places_out_of_range(error) is not None or self.is_of_no_position(error)

    def fault(self, error: Exception) -> SourceFault:
        """What a failure means, for a consumer that was connected."""
        match type(error).__name__:
            case "TopicAuthorizationFailedError":
                return SourceFault(f"the brokers do not let this user read a topic: {self._key('topics')}")
            case "GroupAuthorizationFailedError":
                return SourceFault(f"the brokers do not let this user into the group: {self._key('group')}")
            case name:
                return SourceFault(f"the brokers failed ({name}): {str(error)[:200]}")

    def unreadable(self, error: Exception, place: PartitionPlace, offset: int) -> SourceFault:
        """That something lies in a partition of which the library makes nothing, as a header's name that is no UTF-8,
        or a batch that is too large.
        """
        move = f"hookledger sources move {self._name} --topic {place.topic} --partition {place.partition}"
        return SourceFault(
            f"the client of Kafka cannot read what lies in {place.topic} {place.partition} at offset {offset} "
            f"({type(error).__name__}: {str(error)[:200]}): pass over it, and over what was sent in one batch with it: "
            f"{move} --to {offset + 1}, or further"
        )

    def unknown(self, topics: Collection[str]) -> str:
        """That topics are not there."""
        named = ", ".join(sorted(topics))
        return f"there is no topic {named}, or this user may not see it: {self._key('topics')}"

    def unreachable(self) -> str:
        """That nobody answers."""
        return f"no broker of {', '.join(self._section.brokers)} answers: see whether they run, {self._key('brokers')}"

    def _key(self, key: str) -> str:
        return f"correct sources.{self._name}.{key}"

    def _access(self) -> dict[str, object]:
        section = self._section
        protocol = ("SASL_" if section.sasl else "") + ("SSL" if section.tls else "PLAINTEXT")
        access: dict[str, object] = {
            "bootstrap_servers": list(section.brokers),
            "client_id": f"hookledger-{__version__}",
            "request_timeout_ms": _REQUEST_MS,
            "security_protocol": protocol,
            "ssl_context": self._tls() if section.tls else None,
        }
        if section.sasl is not None:
            access["sasl_mechanism"] = section.sasl.value.upper()
            access["sasl_plain_username"] = section.username
            access["sasl_plain_password"] = None if section.password is None else section.password.reveal()
        return access

    def _tls(self) -> ssl.SSLContext:
        section = self._section
        try:
            context = ssl.create_default_context(cafile=section.ca_file)
            if section.certificate_file is not None:
                context.load_cert_chain(section.certificate_file, section.key_file)
        except (ssl.SSLError, OSError) as error:
            key = "ca_file" if section.certificate_file is None else "certificate_file or key_file"
            raise SourceFault(f"a file for TLS cannot be used ({error}): {self._key(key)}") from error
        return context

    async def _cause(self, error: Exception) -> str:
        """Why no broker lets us in. The library tells it in its log only, so they are asked again, all at once."""
        async with TaskGroup() as group:
            asking = [group.create_task(self._refusal_of(broker)) for broker in self._section.brokers]
        refusals = [refusal for task in asking if (refusal := task.result()) is not None]
        told = [each for each in refusals if not isinstance(each, TimeoutError)]
        return self._sentence([error, *refusals, *told][-1])

    async def _refusal_of(self, broker: str) -> Exception | None:
        """What keeps us from one broker."""
        conn = import_module("aiokafka.conn")
        access = self._access()
        del access["bootstrap_servers"]
        host, _, port = broker.rpartition(":")
        try:
            async with asyncio.timeout(CAUSE_SECONDS):
                (await conn.create_conn(host.strip("[]"), int(port), **access)).close()
        except Exception as refusal:  # noqa: BLE001 - as above
            return refusal
        return None

    def _sentence(self, error: Exception) -> str:
        brokers = ", ".join(self._section.brokers)
        name = type(error).__name__
        match error:
            case ssl.SSLCertVerificationError():
                return f"the certificate of {brokers} is not trusted ({error.verify_message}): {self._key('ca_file')}"
            case ssl.SSLError():
                return f"{brokers} cannot agree on TLS ({error.reason}): {self._key('tls')} or the port in brokers"
            case _ if "UnsupportedSaslMechanism" in name or "IllegalSaslState" in name:
                return f"{brokers} does not take this way to sign in: {self._key('sasl')}"
            case _ if "Authentication" in name:
                return f"{brokers} refuses this user or password: {self._key('username')} or password"
            case _:
                also = "" if self._section.tls else ", or tls if they speak TLS there"
                return f"no broker of {brokers} can be reached ({name}): {self._key('brokers')}{also}"
