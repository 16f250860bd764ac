"""Kafka: one broker that is its own controller (KRaft)."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from include.kafka import topics
from local.home import Home
from local.jars import jar_folder
from local.services.java import archive_flags, common_flags, java
from local.services.part import Launch, Part, PartFailed, base_environment, listens, reason

SETTLE_SECONDS = 60.0
TOOL_SECONDS = 60.0
LOGGING = Path(__file__).with_name("log4j2.properties")


def _settings(home: Home) -> str:
    broker, controller = home.port("kafka"), home.port("kafka_controller")
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(home.path / "kafka" / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "2000",
        # A broker that was killed is back when its old session has run out. Shorter than Kafka's own 9 s, a machine at
        # its limits has it counted out (fenced) while it lives, and a commit of just then is lost (transactions.py).
        "broker.session.timeout.ms": "9000",
        "log.segment.bytes": str(128 * 1024 * 1024),
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "log.retention.check.interval.ms": "300000",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _classpath() -> str:
    return f"{jar_folder('kafka')}/*"


def tool(home: Home, purpose: str, *program: str) -> str:
    """What one of Kafka's own programs (class first, then arguments) prints.

    Raises PartFailed, which says that Kafka could not do what `purpose` says, and subprocess.TimeoutExpired.
    """
    flags = ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *common_flags(home)]
    run = subprocess.run(
        [java(), *flags, "-cp", _classpath(), *program],
        env=base_environment(home),
        capture_output=True,
        text=True,
        timeout=TOOL_SECONDS,
    )
    if run.returncode != 0:
        raise PartFailed(f"Kafka could not {purpose}: {(run.stderr or run.stdout).strip()[-600:]}")
    return run.stdout


def _prepare(home: Home) -> Launch:
    folder = home.path / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "server.properties"
    settings.write_text(_settings(home))
    environment = base_environment(home)
    if not (folder / "data" / "meta.properties").exists():
        shutil.rmtree(folder / "data", ignore_errors=True)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        format_it = ("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(settings))
        tool(home, "make its data folder", *format_it)
    flags = ["-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
    flags += [*common_flags(home), *archive_flags(home, "kafka"), f"-Dlog4j2.configurationFile={LOGGING}"]
    return Launch([java(), *flags, "-cp", _classpath(), "kafka.Kafka", str(settings)], environment, folder)


def _ready(home: Home, started_at: float) -> str | None:
    if not listens(home.port("kafka")):
        return "nothing listens on its port yet"
    try:
        quiet: dict[str, str | int | float | bool] = {
            "bootstrap.servers": home.kafka_bootstrap,
            "log_level": 0,
            "socket.timeout.ms": 3000,
        }
        brokers = AdminClient(quiet, logger=_SILENT).list_topics(timeout=3).brokers
    except Exception as error:
        return f"no answer to a request for metadata ({reason(error)})"
    return None if brokers else "no broker is registered yet"


class _Silent:
    """librdkafka reports each refused connection; while a broker starts that is no news."""

    def log(self, *_: object, **__: object) -> None: ...


_SILENT = _Silent()


def _settle(home: Home) -> None:
    """A broker that answers may be counted out for a moment (fenced), and no topic can be created meanwhile."""
    again = Retrying(
        retry=retry_if_exception_type(KafkaException),
        wait=wait_fixed(1),
        stop=stop_after_delay(SETTLE_SECONDS),
        reraise=True,
    )
    again(topics.apply, {"bootstrap.servers": home.kafka_bootstrap, "log_level": 0})


PART = Part(
    name="kafka",
    prepare=_prepare,
    ready=_ready,
    settle=_settle,
    ports=("kafka", "kafka_controller"),
    stop_seconds=20,
)
