"""A Kafka broker for tests: one real node in KRaft mode, small, with a plain listener and one with TLS and SASL.

The one thing to know: it takes some seconds to start, so the tests that use it share one, and each has topics of its
own. `.ci/broker` installs what it needs. Without that the tests are skipped, or fail if REQUIRE_KAFKA is set to 1.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.postgres.server_processes import fast_directory, free_port
from tests.support.values.certificates import issue, pem

REQUIRE_KAFKA = "HOOKLEDGER_TEST_REQUIRE_KAFKA"
JARS = "HOOKLEDGER_TEST_KAFKA"
USER, PASSWORD = "ada", "lovelace"

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
# A few threads and little memory: its work here is a few thousand messages.
_JAVA = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_SETTINGS = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT",
    "listener.name.secure.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
    "listener.name.secure.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'user_{USER}="{PASSWORD}";',
    "listener.name.secure.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule "
    "required;",
    "ssl.keystore.type": "PEM",
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "num.network.threads": "1",
    "num.io.threads": "2",
    "background.threads": "1",
    "num.recovery.threads.per.data.dir": "1",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.cleaner.backoff.ms": "200",
    "log.retention.check.interval.ms": "500",
    "log.initial.task.delay.ms": "100",
    "file.delete.delay.ms": "100",
    "message.max.bytes": "4194304",
    "replica.fetch.max.bytes": "4194304",
}
_LOGGING = """
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m%n
"""


class Broker:
    """`address` is that of the plain listener, `secure_address` that of the other, `ca_file` who has signed for it."""

    def __init__(self, jars: Path, directory: Path) -> None:
        self._directory = directory
        self._java = ["java", *_JAVA, f"-Dlog4j2.configurationFile={directory / 'log4j2.properties'}"]
        self._java += ["-cp", f"{jars}/*"]
        self._process: subprocess.Popen[bytes] | None = None
        port, secure_port, controller_port = free_port(), free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        self.secure_address = f"localhost:{secure_port}"
        self.ca_file = directory / "ca.pem"
        self.log = directory / "broker.log"
        (directory / "log4j2.properties").write_text(_LOGGING)
        listeners = f"PLAINTEXT://127.0.0.1:{port},SECURE://localhost:{secure_port}"
        self._write_settings(
            {
                **_SETTINGS,
                "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller_port}",
                "advertised.listeners": listeners,
                "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
                "log.dirs": str(directory / "data"),
                "ssl.keystore.location": str(self._keystore()),
            }
        )
        self._format()

    def start(self) -> None:
        """Returns once it takes connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        for address in (self.address, self.secure_address):
            self._until_listening(address)

    def kill(self) -> None:
        """Ends it as a failing machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def _settings(self) -> Path:
        return self._directory / "server.properties"

    def _write_settings(self, settings: dict[str, str]) -> None:
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _keystore(self) -> Path:
        authority = issue("authority of tests")
        certificate, key = issue("localhost", issuer=authority)
        self.ca_file.write_bytes(pem(authority))
        file = self._directory / "keystore.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file

    def _format(self) -> None:
        user = f"SCRAM-SHA-512=[name={USER},password={PASSWORD},iterations=4096]"
        storage = ["kafka.tools.StorageTool", "format", "-c", str(self._settings), "-t", "xtzWWN4bTjitpL3kfd9s5g"]
        done = subprocess.run(
            [*self._java, *storage, "--add-scram", user], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _until_listening(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        assert self._process is not None
        for _ in range(int(READY_SECONDS / 0.1)):
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            with socket.socket() as attempt:
                attempt.settimeout(0.1)
                if attempt.connect_ex((host, int(port))) == 0:
                    return
            try:
                self._process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError(f"the broker does not listen: {self.log.read_text()[-4000:]}")


@contextmanager
def broker() -> Iterator[Broker]:
    """Runs a broker in a temporary directory."""
    jars = _jars()
    directory = Path(tempfile.mkdtemp(prefix="hookledger-kafka-", dir=fast_directory()))
    try:
        it = Broker(jars, directory)
        try:
            it.start()
            yield it
        finally:
            it.kill()
    finally:
        shutil.rmtree(directory)


def _jars() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jars = Path(os.environ.get(JARS) or cache / "hookledger-tests" / "kafka")
    if shutil.which("java") is None or not jars.is_dir():
        complain = pytest.fail if os.environ.get(REQUIRE_KAFKA) == "1" else pytest.skip
        complain("there is no Java, or no Kafka: .ci/broker installs both. The tests of Kafka sources do not run")
    return jars
