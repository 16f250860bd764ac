"""How late records came, what they changed in gold, and which fields nobody reads."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from spark_jobs import job
from tests.spark.healthy import MEMBERS, world
from tests.spark.pipeline import ARRIVAL, NOW, Pipeline

UNKNOWN = b'{"user_id":7,"workout_id":1,"session_id":9,"action":"start","timestamp":1709373600,"mood":"good","DROP":1}'


def test_lateness_late_changes_and_unknown_fields(pipeline: Pipeline) -> None:
    pipeline.land(world(MEMBERS[:2]))
    pipeline.produce("workout", [UNKNOWN, b'{"user_id":7,"else":1}'])  # 2024-03-02 10:00, an hour before it arrives
    pipeline.run("quality.lateness")
    told = {(row["source"], row["event_day"]): row for row in pipeline.rows("ops.lateness")}
    assert {source for source, _ in told} == {"workout", "user_profile", "app.registered_users", "app.gym_visits"}
    today = told["workout", ARRIVAL.date()]
    assert (today["records"], today["min_seconds"], today["median_seconds"]) == (1, 3600.0, 3600.0)
    early = told["workout", date(2024, 1, 2)]
    assert (early["records"], early["arrival_day"]) == (2, ARRIVAL.date())
    assert early["max_seconds"] == early["min_seconds"] + 60
    fields = {(row["topic"], row["field"], row["records"]) for row in pipeline.rows("ops.unknown_fields")}
    assert fields == {("workout", "mood", 1), ("workout", "DROP", 1)}

    pipeline.run_all()
    pipeline.run("quality.lateness")
    changed = {(row["gold_table"], row["row_day"]): row for row in pipeline.rows("ops.late_changes")}
    summary = changed["gold.workout_summary", date(2024, 1, 2)]
    assert (summary["inserted"], summary["updated"], summary["deleted"]) == (1, 0, 0)

    before = len(pipeline.rows("ops.lateness"))
    pipeline.run("quality.lateness")
    assert len(pipeline.rows("ops.lateness")) == before, "nothing is counted twice"


def test_what_a_run_wrote_before_it_was_killed_is_counted_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted() -> tuple[int, int]:
        fields = (row["records"] for row in pipeline.rows("ops.unknown_fields") if row["field"] == "mood")
        return sum(row["records"] for row in pipeline.rows("ops.lateness")), sum(fields)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for run in range(2):  # the first of all, and one that goes on from another
        for attempt in range(2):
            number = 2 * run + attempt
            pipeline.produce("workout", [UNKNOWN.replace(b'"session_id":9', b'"session_id":%d' % number)])
            with monkeypatch.context() as broken:
                if attempt == 0:
                    broken.setattr(job, "record", killed)
                    with pytest.raises(KeyboardInterrupt):
                        pipeline.run("quality.lateness", now=NOW + timedelta(hours=number))
                else:
                    pipeline.run("quality.lateness", now=NOW + timedelta(hours=number))
            assert counted() == (number + 1, number + 1)


def test_lateness_after_a_feed_is_gone_goes_on_without_what_it_cannot_count(pipeline: Pipeline) -> None:
    pipeline.produce("workout", [UNKNOWN])
    pipeline.run("quality.lateness")
    before = pipeline.rows("ops.lateness")
    for number in range(2, 4):
        pipeline.produce("workout", [UNKNOWN.replace(b'"session_id":9', b'"session_id":%d' % number)])
    spark = pipeline.spark
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    spark.sql("OPTIMIZE bronze.kafka_multiplex")
    spark.sql("VACUUM bronze.kafka_multiplex RETAIN 0 HOURS")
    pipeline.run("quality.lateness")
    assert pipeline.outcome("quality.lateness")["mode"] == "everything"
    assert pipeline.rows("ops.lateness") == before
    pipeline.produce("workout", [UNKNOWN.replace(b'"session_id":9', b'"session_id":5')])
    pipeline.run("quality.lateness")
    assert sum(row["records"] for row in pipeline.rows("ops.lateness")) == sum(row["records"] for row in before) + 1
