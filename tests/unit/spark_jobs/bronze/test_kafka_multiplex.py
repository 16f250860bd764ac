"""A checkpoint that is no longer the job's own: Delta would leave out what it reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spark_jobs.bronze import kafka_multiplex
from spark_jobs.bronze.kafka_multiplex import OlderCheckpoint
from spark_jobs.job import LastRun
from spark_jobs.platform import Platform

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_run(root: Path, last_run: LastRun | None, clock: datetime = NOW) -> Any:
    return SimpleNamespace(platform=Platform(checkpoint_root=f"file://{root}"), clock=clock, last_run=lambda: last_run)


def made_by_spark(root: Path, batch: int, **ends: int) -> None:
    """The checkpoint when a batch has been planned; `ends` of partition 0 by topic."""
    checkpoint = root / kafka_multiplex.TARGET
    (checkpoint / "offsets").mkdir(parents=True, exist_ok=True)
    (checkpoint / "metadata").write_text('{"id":"e300"}')
    planned = json.dumps({topic: {"0": end} for topic, end in ends.items()})
    (checkpoint / "offsets" / str(batch)).write_text(f"v1\n{{}}\n{planned}")


def test_a_checkpoint_that_has_come_as_far_as_the_last_run_is_taken(tmp_path: Path) -> None:
    kafka_multiplex._check(a_run(tmp_path, None, NOW - HOUR))
    made_by_spark(tmp_path, 9, workout=5, user_profile=1)
    made_by_spark(tmp_path, 10, workout=7, user_profile=1)
    kafka_multiplex._check(a_run(tmp_path, LastRun({"workout-0": 7}, NOW)))


def test_an_older_copy_is_refused_with_the_place_that_it_lacks(tmp_path: Path) -> None:
    kafka_multiplex._check(a_run(tmp_path, None, NOW - HOUR))
    made_by_spark(tmp_path, 3, workout=5, user_profile=1)
    with pytest.raises(OlderCheckpoint, match="workout-0 up to 7 and not 5"):
        kafka_multiplex._check(a_run(tmp_path, LastRun({"workout-0": 7, "user_profile-0": 1}, NOW)))


def test_a_new_checkpoint_whose_first_run_died_on_its_way_is_taken(tmp_path: Path) -> None:
    before = LastRun({"workout-0": 7}, NOW - HOUR)
    kafka_multiplex._check(a_run(tmp_path, before))
    made_by_spark(tmp_path, 0, workout=5)
    kafka_multiplex._check(a_run(tmp_path, before))
