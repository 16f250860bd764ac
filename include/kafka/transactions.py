"""Transactions that hang: begun, and ended by nobody.

Who reads committed records only gets nothing that lies behind the first record of such a transaction, for ever, while
producers, Connect and the readers' own jobs look well. Brokers end what a dead producer left open. Seen nevertheless:
a broker that its controller counted out for half a second, just as a commit was to be noted in the partitions, noted
it nowhere (Kafka 4.3, TransactionMarkerChannelManager: "these partitions are likely deleted already").
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient

from include.kafka.offsets import ends

TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Hanging:
    """A partition whose committed records end before a transaction that began long ago. `offset`: its first record."""

    topic: str
    partition: int
    offset: int
    since: datetime

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition} from offset {self.offset}, open since {self.since:%Y-%m-%d %H:%M:%S} UTC"


def hanging(client_settings: Mapping[str, Any], longer_than_seconds: float) -> list[Hanging]:
    """Where a transaction is open for longer than that; no producer should want so long (transaction.timeout.ms).

    Raises KafkaException when the brokers do not answer.
    """
    quiet = {"log_level": 0, **client_settings}
    admin = AdminClient(quiet)
    topics = admin.list_topics(timeout=TIMEOUT_SECONDS).topics
    places = [
        (name, number) for name, topic in topics.items() if not name.startswith("__") for number in topic.partitions
    ]
    committed = ends(admin, places, TIMEOUT_SECONDS, IsolationLevel.READ_COMMITTED)
    written = ends(admin, places, TIMEOUT_SECONDS)
    found = []
    for place, offset in committed.items():
        if offset < written[place]:
            since = _written_at(quiet, *place, offset)
            if since is not None and time.time() - since.timestamp() > longer_than_seconds:
                found.append(Hanging(*place, offset, since))
    return found


def _written_at(client_settings: Mapping[str, Any], topic: str, partition: int, offset: int) -> datetime | None:
    """When the record at an offset was written, committed or not; None when it does not come."""
    own = {"group.id": "fitness-look", "isolation.level": "read_uncommitted", "enable.auto.commit": False}
    consumer = Consumer({**client_settings, **own})
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        record = consumer.poll(TIMEOUT_SECONDS)
        return None if record is None or record.error() else datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC)
    finally:
        consumer.close()
