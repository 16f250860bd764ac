"""
# Silver: what is true

## What flows
From bronze, and from `silver.heart_rate` which the BPM stream keeps: one task a table, an edge wherever a table is
computed from another one.

| table | from |
|---|---|
| `users`, `user_devices` | `bronze.registrations` |
| `user_profile_changes`, `workout_events` | `bronze.kafka_multiplex` |
| `user_profile`, `user_profile_history` | `user_profile_changes` |
| `gym_visits` | `bronze.gym_visits`, `user_devices` |
| `workout_sessions` | `workout_events`, and the clock: an open session is abandoned after 3 hours |
| `workout_heart_rate` | `heart_rate`, `workout_sessions`, `user_devices` |

Each task recomputes the rows of the keys that new rows touch. `announce` starts `gold`, also when a table failed.

## Why this schedule
At the end of each `bronze` run, through an asset, however many sources failed there: also nothing new is news, because
sessions are abandoned by the clock.

## Triage notes
- **A task is red**: its log ends with the job's Python error; tasks below it are `upstream_failed`, their tables stay
  as they were. Clear the red task with its downstream tasks, or wait for the next run, which does the same work.
- **Rows are missing but all is green**: ask `ops.quarantine` for the record; every refusal has its reason there.
- **A table is wrong after a bug was fixed**: the DAG `rebuild`, which lets this DAG recompute it in its turn.
- Safe at any time: clear, rerun. Running anything twice changes nothing.
"""

# Airflow looks for a DAG only in files in which its own name occurs.
from include.assets import BRONZE_DONE, SILVER_DONE
from include.dag import announce, fitness_dag
from include.databricks_tasks import layer_jobs
from include.rebuild import LAYER_PARAMS
from include.tags import Tag

with fitness_dag(
    "silver",
    doc=__doc__,
    tags={Tag.REFINE, Tag.TIER_1},
    started_by=BRONZE_DONE,
    params=LAYER_PARAMS,
):
    layer_jobs("silver") >> announce(SILVER_DONE)
