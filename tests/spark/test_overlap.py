"""Two runs of one job at once: what the overtaken one computed must not stand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import incremental, job, quarantine
from tests.oracle import RegistrationVersion, World, at
from tests.spark.pipeline import Pipeline

REGISTERED = at("2024-01-01")
TRANSACTION = ("spark.databricks.delta.write.txnAppId", "spark.databricks.delta.write.txnVersion")


def registration(user_id: int) -> World:
    return World([RegistrationVersion(user_id, user_id, f"mac-{user_id}", REGISTERED, user_id)])


@pytest.mark.parametrize("members_before", [0, 1], ids=["first rows of the table", "further rows"])
def test_a_run_that_another_one_overtook_writes_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, members_before: int
) -> None:
    for user_id in range(1, members_before + 1):
        pipeline.land(registration(user_id))
        pipeline.run("silver.users")
    pipeline.land(registration(7))

    append = incremental._append

    def append_after_another_run(run: job.Job, table: incremental.Table, rows: DataFrame) -> None:
        monkeypatch.setattr(incremental, "_append", append)
        ours = {name: run.spark.conf.get(name) for name in TRANSACTION}
        pipeline.run("silver.users")
        for name, value in ours.items():  # the other run has a session of its own; here it shares ours
            run.spark.conf.set(name, value)
        run.spark.conf.unset(incremental.LAST_COMMIT)
        append(run, table, rows)

    monkeypatch.setattr(incremental, "_append", append_after_another_run)
    with pytest.raises(incremental.Overtaken, match=r"silver\.users"):
        pipeline.run("silver.users")

    assert sorted(row["user_id"] for row in pipeline.rows("silver.users")) == [*range(1, members_before + 1), 7]
    assert pipeline.outcome("silver.users")["error_class"] == "Overtaken"
    pipeline.run("silver.users")
    assert len(pipeline.rows("silver.users")) == members_before + 1


def test_jobs_that_refuse_at_the_same_time_all_have_their_records_in_quarantine(pipeline: Pipeline) -> None:
    """Each looks at what the table holds before it appends, so Delta lets one through and refuses the others."""
    spark = pipeline.spark
    writers = range(4)

    def refuse(writer: int) -> None:
        records = spark.range(writer * 10, writer * 10 + 10).selectExpr(
            "'workout' AS topic", "0 AS partition", "id AS offset", "'malformed_json' AS reason", "'' AS detail",
            "CAST(NULL AS BINARY) AS key", "CAST(NULL AS BINARY) AS value",
        )  # fmt: skip
        refused = quarantine.refused_records(records)
        quarantine.append(spark, "spark_catalog", refused, F.col("offset").between(0, 100))

    for _again in range(2):
        with ThreadPoolExecutor(len(writers)) as threads:
            list(threads.map(refuse, writers))
    assert sorted(row["offset"] for row in pipeline.rows(quarantine.QUARANTINE)) == list(range(40))
