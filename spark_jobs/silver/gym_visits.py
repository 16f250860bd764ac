"""`silver.gym_visits`: one row is a visit.

Key: visit_id. From `bronze.gym_visits` (the latest accepted version; none if that is a deletion), whose versions this
job also judges, and from `silver.user_devices`: the member is who wore a device with this address at login, or nobody.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.slices import Slice
from spark_jobs.versions import VISIT, VISITS, judge_visits

SOURCE, DEVICES = "bronze.gym_visits", "silver.user_devices"


def visits(versions: DataFrame, devices: DataFrame) -> DataFrame:
    """Versions of visits, and periods of devices -> visits."""
    accepted = judge_visits(versions).where("reason IS NULL")
    now = rules.latest(accepted, ("visit_id",), F.col("row_version"), F.col("is_deleted"))
    visit, device = now.where("NOT is_deleted").select(*VISIT).alias("visit"), devices.alias("device")
    worn = (
        (F.col("visit.mac_address") == F.col("device.mac_address"))
        & (F.col("device.valid_from") <= F.col("visit.login_at"))
        & (F.col("device.valid_to").isNull() | (F.col("visit.login_at") < F.col("device.valid_to")))
    )
    # should two members wear devices with one address, it is whose period began last
    claimed = visit.join(device, worn, "left").select("visit.*", "device.user_id", "device.valid_from")
    whose = F.max(F.struct("valid_from", "user_id"))["user_id"].alias("user_id")
    return claimed.groupBy(*VISIT).agg(whose)


def touched(changes: Changes) -> list[DataFrame]:
    frames = []
    if (feed := changes.of(SOURCE)) is not None:
        frames.append(feed.select("visit_id"))
    if (feed := changes.of(DEVICES)) is not None:
        periods = Slice.of(feed.select("mac_address", "valid_from", "valid_to"))
        if not periods.is_nothing and periods.frame is not None:
            known = changes.job.table("silver.gym_visits").where(periods.within("login_at", "valid_from", "valid_to"))
            frames.append(periods.among(known, "mac_address").select("visit_id"))
    return frames


def rows(run: job.Job, keys: Slice) -> DataFrame:
    versions, devices = keys.among(run.table(SOURCE), "visit_id"), run.table(DEVICES)
    return visits(versions, devices)


TABLE = Table(
    name="silver.gym_visits",
    key=("visit_id",),
    row_key=("visit_id",),
    clustering=("user_id", "login_at"),
    sources={SOURCE: "TRUE", DEVICES: "TRUE"},
    touched=touched,
    rows=rows,
    intake=VISITS,
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
