"""`silver.user_devices`: one row is a period in which a member wore a device.

Key: user_id, valid_from. From `bronze.registrations` (accepted versions; a deletion ends nothing that was worn before).
A period ends when the member registers another device, or when another member registers this one: a device is on one
wrist (docs/decisions/0002). A member who registers it again after another one has a new period.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs import job, rules
from spark_jobs.incremental import Changes, Table, run_table
from spark_jobs.slices import Slice
from spark_jobs.versions import judge_registrations

SOURCE = "bronze.registrations"


def worn(versions: DataFrame) -> DataFrame:
    """Versions of registrations -> periods (user_id, device_id, mac_address, valid_from, valid_to).

    Right for those members of whom, and of whose devices' other members, all versions are given.
    """
    accepted = judge_registrations(versions).where("reason IS NULL AND NOT is_deleted")
    # of two versions for the same moment the later one wins
    said = rules.latest(accepted, ("user_id", "registered_at"), F.col("row_version"))
    of_member = Window.partitionBy("user_id").orderBy("registered_at")
    of_device = Window.partitionBy("device_id").orderBy("registered_at", "row_version", "user_id")
    # the same device again says something only where another member had it meanwhile
    starts = (
        said.withColumn("_before", F.lag(F.struct("device_id", "mac_address")).over(of_member))
        .withColumn("_wearer", F.lag("user_id").over(of_device))
        .where("_before IS NULL OR _before <> struct(device_id, mac_address) OR _wearer <> user_id")
        .withColumn("_next", F.lead("registered_at").over(of_member))
    )
    periods = starts.withColumn("valid_to", F.least("_next", F.lead("registered_at").over(of_device)))
    return periods.where("valid_to IS NULL OR valid_to > registered_at").select(
        "user_id", "device_id", "mac_address", F.col("registered_at").alias("valid_from"), "valid_to"
    )


def sharers(registrations: DataFrame, members: Slice) -> Slice:
    """The members given, and all who ever registered a device that one of them did, or that is given with them."""
    said = members.among(registrations, "user_id").select("device_id")
    if members.frame is not None and members.has("device_id"):
        said = said.union(members.frame.select("device_id"))
    devices = Slice.of(said.where("device_id IS NOT NULL"))
    return Slice.of(devices.among(registrations, "device_id").select("user_id").union(_frame(registrations, members)))


def _frame(registrations: DataFrame, members: Slice) -> DataFrame:
    return registrations.select("user_id") if members.frame is None else members.frame.select("user_id")


def touched(changes: Changes) -> list[DataFrame]:
    feed = changes.of(SOURCE)
    if feed is None:
        return []
    # of a registration that was erased only the change still says which device it was
    named = Slice.of(feed.select("user_id", "device_id"))
    shared = sharers(changes.job.table(SOURCE), named).frame
    return [] if shared is None else [shared]


def rows(run: job.Job, keys: Slice) -> DataFrame:
    registrations = run.table(SOURCE)
    if keys.is_everything:
        return worn(registrations)
    others = sharers(registrations, keys)
    return keys.among(worn(others.among(registrations, "user_id")), "user_id")


TABLE = Table(
    name="silver.user_devices",
    key=("user_id",),
    row_key=("user_id", "valid_from"),
    clustering=("user_id",),
    sources={SOURCE: "TRUE"},
    touched=touched,
    rows=rows,
)


def main(argv: list[str]) -> int:
    return run_table(TABLE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
