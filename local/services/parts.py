"""All supervised parts of a stack, by name. Their order is that of a list for people; who needs whom stands in each."""

from __future__ import annotations

from local.services import connect, kafka, postgres, spark
from local.services.part import Part

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        postgres.PART,
        kafka.PART,
        connect.PART,
        spark.PART,
    )
}
