"""Where the partitions of a Kafka cluster end."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

Place = tuple[str, int]  # topic, partition


def ends(
    admin: AdminClient,
    places: Iterable[Place],
    timeout_seconds: float,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[Place, int]:
    """The offset of the next record in each; for committed records only, of the first that is not yet committed.

    Read uncommitted, markers of transactions count, as they do in Spark's offsets. Raises KafkaException and
    TimeoutError.
    """
    wanted = {TopicPartition(*place): OffsetSpec.latest() for place in places}
    answers = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=timeout_seconds) if wanted else {}
    return {(at.topic, at.partition): answer.result(timeout=timeout_seconds).offset for at, answer in answers.items()}
