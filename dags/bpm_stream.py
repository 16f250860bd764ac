"""
# BPM stream: is the heart-rate stream well, and what helps if not

## What flows
The stream (`spark_jobs/streaming/bpm.py`) is a job of its own on Databricks: Kafka `bpm` -> `bronze.kafka_multiplex` ->
`silver.heart_rate` (+ `ops.quarantine`) -> `gold.bpm_trends`. No task here holds it. Each run looks at it once:

1. **observe** the job's active runs, the stream's heartbeat (one small file) and the end of the topic;
2. **judge**: one verdict with its reason (`include/stream/judge.py`, a rule is a few lines);
3. **act**: start, restart, roll to the version that is deployed, or nothing (`include/stream/act.py`);
4. **verify** that a run came of it. The next look, a minute later, judges that run anew.

## Why this schedule
Every minute: the platform restarts a driver that crashed within seconds; this sees what the platform cannot, a driver
that is alive and does not beat, a batch that hangs while its driver beats, an old version, growing lag. What seems to
stand still is looked at until that is certain, within the run: a driver that hangs as a whole is noticed after 45 s, a
batch that hangs after 75 s, and both within 90 s; the first batch of a run may take 150 s.

## Triage notes
The log of `supervise` says verdict, reason and deed. At a terminal `python -m include.stream status` says
the same (on one machine `./fitness stream status`).
- **healthy, starting, catching_up**: leave it alone. After an outage catching up is normal; its reason says how far.
- **stopped, stalled, duplicated, outdated**: it is being mended; look if it is still so after three runs. Not when the
  reason says *as wanted* (somebody stopped it), *Kafka does not answer* or *is not deployed*: the last two page.
- **Red and paged**: starts did not help, or none would. `failing` names the cause: *paused* means that more was refused
  than the limit allows, usually a new version of a producer or of the stream: deploy the right one and it is rolled.
- **rewound**: the checkpoint or the topic was exchanged. Nothing is written twice or left out, but find out who did it;
  a topic that was made anew needs a new checkpoint.
- One page an incident; it closes after ten minutes of health. Five starts at most, then one every half hour. A page
  that could not be delivered makes the run red, and the next run sends it.
- To stop it on purpose: `python -m include.stream stop`; `... ensure` starts it and forgets what was tried before
  (on one machine `./fitness stream stop` and `... ensure`).

Runbook: `docs/runbooks/bpm_stream.md`.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context, task

from include.alerts import task_failed
from include.dag import fitness_dag
from include.settings import settings
from include.stream.airflow import StreamUnwell, deadline_missed, supervisor
from include.stream.judge import Cure, State
from include.stream.supervise import summary
from include.tags import Tag

UNWELL = {State.FAILING, State.REWOUND}


def unless_paged(context: Context) -> None:
    """What broke the supervision makes a ticket; what it found has paged already."""
    if not isinstance(context.get("exception"), StreamUnwell):
        task_failed(dict(context))


with fitness_dag("bpm_stream", doc=__doc__, tags={Tag.STREAM, Tag.TIER_1}, missed=deadline_missed):

    @task(execution_timeout=settings().dag("bpm_stream").job_timeout, retries=0, on_failure_callback=unless_paged)
    def supervise() -> dict[str, Any]:
        """Returns the verdict and what was done; red while a person is needed."""
        verdict, decision = supervisor().once()
        if verdict.state in UNWELL or (decision.memory.paged and verdict.cure is not Cure.NOTHING):
            raise StreamUnwell(f"{verdict.state}: {verdict.reason}")
        return summary(verdict, decision)

    supervise()
