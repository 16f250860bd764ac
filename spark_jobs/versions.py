"""Versions of SQL rows, judged as strictly as messages: `reason` (NULL when accepted) and `detail`.

A deletion is never refused: whatever the row held, it is gone.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs import quarantine
from spark_jobs.incremental import Intake
from spark_jobs.quarantine import Reason

REGISTRATION = ["user_id", "device_id", "mac_address", "registered_at"]
VISIT = ["visit_id", "mac_address", "gym_id", "login_at", "logout_at"]


def judge_registrations(versions: DataFrame) -> DataFrame:
    """Versions of app.registered_users: adds reason and detail."""
    return _judged(
        versions,
        *(_missing(column) for column in ("device_id", "mac_address", "registered_at")),
        *_time("registered_at"),
    )


def judge_visits(versions: DataFrame) -> DataFrame:
    """Versions of app.gym_visits: adds reason and detail."""
    return _judged(
        versions,
        *(_missing(column) for column in ("mac_address", "gym_id", "login_at")),
        *_time("login_at"),
        *_time("logout_at"),
        _fault(F.col("logout_at") < F.col("login_at"), Reason.ENDS_BEFORE_START, "logout_at"),
    )


REGISTRATIONS = Intake(
    source="bronze.registrations",
    label="app.registered_users",
    judged=judge_registrations,
    refused=lambda versions: quarantine.refused_versions("app.registered_users", "user_id", versions, REGISTRATION),
    place="row_version",
)
VISITS = Intake(
    source="bronze.gym_visits",
    label="app.gym_visits",
    judged=judge_visits,
    refused=lambda versions: quarantine.refused_versions("app.gym_visits", "visit_id", versions, VISIT),
    place="row_version",
)


def _judged(versions: DataFrame, *faults: Column) -> DataFrame:
    fault = F.when(~F.col("is_deleted"), F.coalesce(*faults))
    judged = versions.withColumn("_fault", fault)
    return judged.withColumns({"reason": F.col("_fault.reason"), "detail": F.col("_fault.detail")}).drop("_fault")


def _missing(column: str) -> Column:
    return _fault(F.col(column).isNull(), Reason.MISSING_FIELD, column)


def _time(column: str) -> list[Column]:
    return [
        _fault(F.col(column) < F.lit("2000-01-01 00:00:00Z").cast("timestamp"), Reason.BEFORE_2000, column),
        _fault(F.col(column) >= F.timestamp_micros(F.lit(253_402_300_800_000_000)), Reason.OUT_OF_RANGE, column),
    ]


def _fault(condition: Column, reason: Reason, detail: str) -> Column:
    return F.when(condition, F.struct(F.lit(str(reason)).alias("reason"), F.lit(detail).alias("detail")))
