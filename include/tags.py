"""The closed vocabulary of DAG tags; a test holds every DAG to it."""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    # What it is about: exactly one.
    INGEST = "ingest"
    REFINE = "refine"
    STREAM = "stream"
    QUALITY = "quality"
    GOVERNANCE = "governance"
    MAINTENANCE = "maintenance"
    SERVING = "serving"

    # Who suffers when it fails: exactly one.
    TIER_1 = "tier-1"  # people see stale or no data within minutes: a page
    TIER_2 = "tier-2"  # somebody notices within a day: a ticket
    TIER_3 = "tier-3"  # a person started it and watches it

    # How it is started, where that is not by a clock.
    MANUAL = "manual"


SUBJECTS = frozenset({Tag.INGEST, Tag.REFINE, Tag.STREAM, Tag.QUALITY, Tag.GOVERNANCE, Tag.MAINTENANCE, Tag.SERVING})
TIERS = frozenset({Tag.TIER_1, Tag.TIER_2, Tag.TIER_3})
