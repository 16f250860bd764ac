"""Brings the topics of a Kafka cluster to what topics.yaml declares: create, grow, set; never delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DECLARATION = Path(__file__).with_name("topics.yaml")


@dataclass(frozen=True)
class Topic:
    """A topic as declared, or as a cluster has it."""

    name: str
    partitions: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """One thing to do to a cluster: `create` a topic, `grow` its partitions, or `set` those of its settings."""

    action: str
    topic: Topic

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.topic.settings.items())
        return f"{self.action} {self.topic.name}: " + (
            settings if self.action == "set" else f"{self.topic.partitions} partitions"
        )


def declared(file: Path = DECLARATION) -> list[Topic]:
    """The topics of a declaration; retention_days becomes retention.ms, and max_message_bytes, if given, likewise."""
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    topics = []
    for name, wanted in document["topics"].items():
        milliseconds = int(wanted["retention_days"] * 24 * 3600 * 1000)
        settings = {str(key): str(value) for key, value in document.get("defaults", {}).items()}
        settings["retention.ms"] = str(milliseconds)
        if "max_message_bytes" in wanted:
            settings["max.message.bytes"] = str(wanted["max_message_bytes"])
        topics.append(Topic(name, int(wanted["partitions"]), settings))
    return topics


def plan(wanted: list[Topic], found: Mapping[str, Topic]) -> list[Change]:
    """What is to be done so that `found` (by name) becomes `wanted`.

    Raises ValueError for fewer partitions than a topic has: Kafka cannot, and the key order of its records would go.
    """
    changes = []
    for topic in wanted:
        have = found.get(topic.name)
        if have is None:
            changes.append(Change("create", topic))
            continue
        if topic.partitions < have.partitions:
            raise ValueError(f"Topic {topic.name} has {have.partitions} partitions; {topic.partitions} cannot be had.")
        if topic.partitions > have.partitions:
            changes.append(Change("grow", topic))
        different = {name: value for name, value in topic.settings.items() if have.settings.get(name) != value}
        if different:
            changes.append(Change("set", Topic(topic.name, topic.partitions, different)))
    return changes


def apply(client_settings: Mapping[str, Any], replication: int = -1, timeout_seconds: float = 30) -> list[Change]:
    """Bring the cluster that `client_settings` (of librdkafka, `bootstrap.servers` first) name to the declaration.

    Returns what was changed; raises KafkaException when the cluster refuses. `replication` -1: the cluster's default.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        NewPartitions,
        NewTopic,
        ResourceType,
    )  # fmt: skip

    admin = AdminClient(dict(client_settings))
    wanted = declared()
    present = admin.list_topics(timeout=timeout_seconds).topics
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in wanted if topic.name in present]
    found = {
        resource.name: Topic(
            resource.name,
            len(present[resource.name].partitions),
            {entry.name: entry.value for entry in answer.result(timeout_seconds).values()},
        )
        for resource, answer in (admin.describe_configs(resources).items() if resources else ())
    }
    changes = plan(wanted, found)
    for change in changes:
        topic = change.topic
        if change.action == "create":
            new = NewTopic(topic.name, topic.partitions, replication, config=dict(topic.settings))
            answer = admin.create_topics([new])[topic.name]
        elif change.action == "grow":
            answer = admin.create_partitions([NewPartitions(topic.name, topic.partitions)])[topic.name]
        else:
            entries = [
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in topic.settings.items()
            ]
            resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
            answer = admin.incremental_alter_configs([resource])[resource]
        try:
            answer.result(timeout_seconds)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody created it a moment ago
                raise
    return changes
