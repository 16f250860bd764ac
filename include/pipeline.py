"""Every batch job, named after the one table it writes, and what it reads. The only place that says so.

Edges between tasks, assets between DAGs and the arguments of a job all follow from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Needs(StrEnum):
    """What a job must be told besides where the tables are."""

    KAFKA = "kafka"
    SQL = "sql"


@dataclass(frozen=True)
class Job:
    """A batch job. `name` is its module below spark_jobs/ and, of a layer, the table it writes: `silver.users`.

    `dag`: where it runs, if that is not the DAG of its layer.
    """

    name: str
    reads: tuple[str, ...]
    needs: tuple[Needs, ...] = ()
    topics: tuple[str, ...] = ()
    dag: str | None = None

    @property
    def layer(self) -> str:
        return self.dag or self.name.split(".")[0]

    @property
    def table(self) -> str:
        return self.name.split(".")[1]


_JOBS = (
    # The topic bpm has its own, always running job: streaming.bpm (dags/bpm_stream.py), which writes silver.heart_rate,
    # gold.bpm_trends and its part of bronze.kafka_multiplex. What is below of the former two is their rebuild.
    Job("bronze.kafka_multiplex", (), (Needs.KAFKA,), ("workout", "user_profile")),
    Job("bronze.registrations", (), (Needs.SQL,)),
    Job("bronze.gym_visits", (), (Needs.SQL,)),
    Job("silver.users", ("bronze.registrations",)),
    Job("silver.user_devices", ("bronze.registrations",)),
    Job("silver.user_profile_changes", ("bronze.kafka_multiplex",)),
    Job("silver.user_profile", ("silver.user_profile_changes",)),
    Job("silver.user_profile_history", ("silver.user_profile_changes",)),
    Job("silver.gym_visits", ("bronze.gym_visits", "silver.user_devices")),
    Job("silver.workout_events", ("bronze.kafka_multiplex",)),
    Job("silver.workout_sessions", ("silver.workout_events",)),
    Job("silver.workout_heart_rate", ("silver.heart_rate", "silver.workout_sessions", "silver.user_devices")),
    Job(
        "gold.workout_summary",
        ("silver.workout_sessions", "silver.workout_heart_rate", "silver.gym_visits", "silver.user_profile"),
    ),
    Job("gold.workout_completion", ("silver.workout_sessions", "silver.gym_visits", "silver.user_profile")),
    Job("gold.gym_activity", ("silver.gym_visits", "silver.workout_sessions")),
    Job(
        "gold.user_activity",
        ("silver.gym_visits", "silver.workout_sessions", "silver.workout_heart_rate", "silver.user_profile"),
    ),
    # These look at every table and at the sources; they write only what they found, into ops.
    Job("quality.reconciliation", (), (Needs.KAFKA, Needs.SQL), ("workout", "user_profile", "bpm")),
    Job("quality.lateness", ()),
    Job("silver.heart_rate", ("bronze.kafka_multiplex",), dag="rebuild_readings"),
    Job("gold.bpm_trends", ("silver.heart_rate",), dag="rebuild_readings"),
    Job("ops.migrations", (), dag="migrations"),
    Job("ops.maintenance", (), dag="maintenance"),
    Job("ops.quarantine_replay", (), (Needs.KAFKA,), ("bpm",), dag="quarantine_replay"),
)

JOBS: dict[str, Job] = {job.name: job for job in _JOBS}
LAYERS = ("bronze", "silver", "gold")


def jobs_of(layer: str) -> list[Job]:
    """The jobs of one layer, in the order of the table above."""
    return [job for job in JOBS.values() if job.layer == layer]


def edges(layer: str) -> list[tuple[str, str]]:
    """Pairs (upstream job, downstream job) within one layer: the downstream one reads the table of the upstream one."""
    return [
        (read, job.name) for job in jobs_of(layer) for read in job.reads if read in JOBS and JOBS[read].layer == layer
    ]
