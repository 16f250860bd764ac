"""Kafka Connect with Debezium: what changes in the sources' tables becomes records."""

from __future__ import annotations

import json
from http.client import HTTPException
from pathlib import Path

from include import kafka_connect
from local.home import REPO, Home
from local.jars import jar_folder
from local.services.java import archive_flags, common_flags, java
from local.services.kafka import LOGGING
from local.services.part import Launch, Part, base_environment, get, reason, write_private

CONNECTORS = REPO / "include" / "connectors" / "postgresql"
JAAS = Path(__file__).with_name("connect_jaas.conf")
OFFSETS_TOPIC = "connect-offsets"
PASSWORDS = "passwords.properties"  # as connect_jaas.conf names it


def _settings(home: Home) -> str:
    settings = {
        "bootstrap.servers": home.kafka_bootstrap,
        "group.id": "fitness-connect",
        "listeners": f"http://127.0.0.1:{home.port('connect')}",
        "rest.advertised.host.name": "127.0.0.1",
        # who may ask for a validation may have any connector class show the passwords below to a server of his own
        "rest.extension.classes": "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension",
        "plugin.path": str(jar_folder("connect") / "plugins"),
        "plugin.discovery": "service_load",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schemas.enable": "false",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "exactly.once.source.support": "enabled",
        "config.storage.topic": "connect-configs",
        "config.storage.replication.factor": "1",
        "offset.storage.topic": OFFSETS_TOPIC,
        "offset.storage.replication.factor": "1",
        "offset.storage.partitions": "4",
        "status.storage.topic": "connect-status",
        "status.storage.replication.factor": "1",
        "status.storage.partitions": "2",
        "scheduled.rebalance.max.delay.ms": "0",
        "session.timeout.ms": "4000",
        "heartbeat.interval.ms": "1000",
        # what a killed worker left open must not block the next one for the default minute
        "producer.transaction.timeout.ms": "10000",
        "transaction.timeout.ms": "10000",
        # connectors name ${env:...}: passwords stay in this process's environment, out of configurations and topics
        "config.providers": "env",
        "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
        "config.providers.env.param.allowlist.pattern": "FITNESS_CDC_.*",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _prepare(home: Home) -> Launch:
    folder = home.path / "connect"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "connect.properties"
    settings.write_text(_settings(home))
    write_private(folder / PASSWORDS, "{}={}\n".format(*home.connect_credentials))
    environment = base_environment(home) | {
        "FITNESS_CDC_HOST": "127.0.0.1",
        "FITNESS_CDC_PORT": str(home.port("postgres")),
        "FITNESS_CDC_USER": "debezium",
        "FITNESS_CDC_PASSWORD": home.secrets["capture_password"],
    }
    flags = ["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
    flags += [*common_flags(home), *archive_flags(home, "connect"), f"-Dlog4j2.configurationFile={LOGGING}"]
    flags += [f"-Djava.security.auth.login.config={JAAS}"]
    program = ["-cp", f"{jar_folder('connect')}/*", "org.apache.kafka.connect.cli.ConnectDistributed", str(settings)]
    return Launch([java(), *flags, *program], environment, folder)


def _ready(home: Home, started_at: float) -> str | None:
    """Ready when the herder works (REST alone answers up to a minute before) and no connector is in trouble."""
    try:
        status, body = get(home.port("connect"), "/health", credentials=home.connect_credentials)
        if status != 200:
            return f"its herder does not work yet ({body.decode()[:120]})"
        _, body = get(home.port("connect"), "/connectors?expand=status", credentials=home.connect_credentials)
        known = json.loads(body)
    except (OSError, HTTPException, ValueError) as error:
        return f"no answer ({reason(error)})"
    statuses = (kafka_connect.Status.of(entry["status"]) for entry in known.values())
    return next((status.trouble for status in statuses if status.trouble), None)


def _settle(home: Home) -> None:
    with kafka_connect.Connect(home.connect_url, home.connect_credentials) as connect:
        kafka_connect.reconcile(connect, kafka_connect.desired(CONNECTORS))


PART = Part(
    name="connect",
    prepare=_prepare,
    ready=_ready,
    settle=_settle,
    needs=("kafka", "postgres"),
    ports=("connect",),
    stop_seconds=20,
)
