"""
# Rebuild of readings: compute silver.heart_rate and gold.bpm_trends anew

## What flows
From `bronze.kafka_multiplex` what `silver.heart_rate` should be, from that what `gold.bpm_trends` should be: for some
devices (`keys`), some UTC days (of `read_at`) or everything. The BPM stream alone writes these tables, so:

1. **prepare**, beside the stream: the keys that differ are staged in `ops.rebuild_differences`;
2. **differs**: nothing does, or `dry_run`: done, and the stream was left alone. Its log says how many keys differ;
3. **pause**: the stream ends its batch and rests;
4. **switch**: the rows of those keys are replaced, one commit a table, by what is known by now;
5. **resume**: the stream goes on where it was, also when the switch failed, unless it was stopped on purpose before.

What depends on the tables is refreshed by the next run of `silver`. Readings wait in Kafka meanwhile.

## Why this schedule
None: a person starts it, after a bug was fixed or when a table is doubted. First as a dry run, which is the default.

## Triage notes
- **`prepare` red**: the request was not understood, or its job failed. Nothing was touched.
- **`pause` red**: the stream did not end, or not at a batch's end; it is not kept from running, or where the worker
  died for three minutes at most. See DAG `bpm_stream`.
- **`switch` red**: each table is as it was, or as it should be. Start a new run; it finds what is left.
- **`NotAlone`**: somebody started the stream during the switch. Start a new run; it mends what both wrote.
- **`TooLate`**: the switch waited too long for its turn, and the stream is about to go on. This table was not touched;
  when it is `gold.bpm_trends`, `silver.heart_rate` has been switched. Start a new run; it finds what is left.
- **The stream stays stopped**: a pause ends by itself after twice the job's timeout; `python -m include.stream ensure`
  ends it at once.
- Records refused as conflicting with what was wrong here: DAG `quarantine_replay`, label `bpm`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, TaskGroup, chain, task

from include.dag import fitness_dag
from include.databricks_tasks import AT_ONCE, SparkJobOperator, spark_job
from include.pipeline import jobs_of
from include.rebuild import EXTENT_PARAMS, Extent
from include.settings import settings
from include.stream import airflow as stream
from include.tags import Tag

DAG_ID = "rebuild_readings"
REBUILD = "{{ run_id }}"
TABLES = [job.table for job in jobs_of(DAG_ID)]
PARAMS = {
    **EXTENT_PARAMS,
    "dry_run": Param(True, type="boolean", description="Only find what differs, and say how much."),
}


JOB_TIMEOUT = settings().dag(DAG_ID).job_timeout
LONGEST_PAUSE = len(TABLES) * JOB_TIMEOUT + timedelta(minutes=5)  # the jobs of the switch, and their way to a slot


with fitness_dag(DAG_ID, doc=__doc__, tags={Tag.STREAM, Tag.TIER_3, Tag.MANUAL}, params=PARAMS):

    @task
    def plan(params: dict[str, Any] | None = None) -> list[str]:
        """What the jobs will be told; red when the request makes no sense."""
        return Extent.of(params or {}).arguments()

    @task.short_circuit
    def differs(rebuild: str, params: dict[str, Any] | None = None) -> bool:
        """Whether there is anything to switch, and leave to do it."""
        return stream.differences(rebuild, TABLES) > 0 and not (params or {})["dry_run"]

    @task
    def pause() -> str:
        """Returns until when a job of the switch may begin: whatever it takes, the stream still rests when it ends."""
        latest = datetime.now(UTC) + LONGEST_PAUSE - JOB_TIMEOUT
        stream.pause(LONGEST_PAUSE.total_seconds())
        return latest.isoformat()

    @task
    def resume() -> dict[str, Any]:
        return stream.resume()

    def jobs(phase: str, *arguments: str, **options: Any) -> list[SparkJobOperator]:
        told = ("--phase", phase, "--rebuild", REBUILD, *arguments)
        with TaskGroup(phase):
            tasks = [
                spark_job(job.name, *told, "--report", stream.report(job.table), **options) for job in jobs_of(DAG_ID)
            ]
        chain(*tasks)  # minutes are those of the readings as they are, or have become
        return tasks

    paused: Any = pause()
    prepared = jobs("prepare", announces=False)
    switched = jobs("switch", "--begin-by", "{{ ti.xcom_pull(task_ids='pause') }}", priority=AT_ONCE)
    plan() >> prepared[0]
    prepared[-1] >> differs(REBUILD) >> paused >> switched[0]
    # A teardown that may fail the run alone says how it ended. That the stream starts is seen to by DAG bpm_stream.
    switched[-1] >> resume().as_teardown(setups=paused)
