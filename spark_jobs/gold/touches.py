"""Which sessions, visits and members a change touches that is not one of theirs: shared by the tables of gold."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.slices import Slice


def members_of_changed_profiles(feed: DataFrame, *fields: str) -> Slice:
    """Members (user_id) whose profile came, went, or changed in one of `fields`; gold does not have the rest."""
    said = F.struct(*fields)
    came_or_went = F.max(F.col("_change_type").isin("insert", "delete")).alias("came_or_went")
    versions = feed.groupBy("user_id").agg(came_or_went, F.min(said).alias("least"), F.max(said).alias("most"))
    return Slice.of(versions.where("came_or_went OR NOT (least <=> most)").select("user_id"), unique=True)


def sessions_of_members(sessions: DataFrame, members: Slice) -> DataFrame:
    """All sessions of these members."""
    return members.among(sessions, "user_id")


def sessions_of_visits(sessions: DataFrame, feed: DataFrame) -> DataFrame:
    """Sessions that start in a visit as it was before the change or as it is after it."""
    held = Slice.of(feed.where("user_id IS NOT NULL").select("user_id", "login_at", "logout_at"))
    if held.frame is None or held.is_nothing:
        return sessions.limit(0)
    near = sessions.where(held.within("user_id")).where(held.within("started_at", "login_at", "logout_at"))
    inside = F.expr(
        "session.user_id = visit.user_id AND login_at <= started_at AND (logout_at IS NULL OR started_at < logout_at)"
    )
    return near.alias("session").join(held.frame.alias("visit"), inside, "left_semi")
