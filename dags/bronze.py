"""
# Bronze: what arrived

## What flows
| task | from | into |
|---|---|---|
| `kafka_multiplex` | Kafka topics `workout` and `user_profile` (captured by Debezium) | `bronze.kafka_multiplex` |
| `registrations` | `app.registered_users`, row versions not yet read | `bronze.registrations` |
| `gym_visits` | `app.gym_visits`, row versions not yet read | `bronze.gym_visits` |

Each is an append-only record of what arrived and where from. Heart rate does not pass here: see `bpm_stream`.
`announce` starts `silver`, also when a source failed: what the others brought must go on.

## Why this schedule
Every few minutes, because people look at workouts and visits minutes after they happen. Each run takes all that came
since the last one, so a run that was missed or failed costs freshness and nothing else.

## Triage notes
- **One task is red, the others green**: that source is down or refuses; the log's last lines are the job's own Python
  error. The next run tries again by itself; nothing needs to be cleared.
- **`kafka_multiplex` is green but workouts are missing**: look at `connectors`; Debezium may have stopped.
- **Deadline missed**: usually compute that does not start; open the run's page through *See Databricks Job Run*.
- Safe at any time: clear, rerun, two runs after another. A task that is run again finds nothing new.
"""

# Airflow looks for a DAG only in files in which its own name occurs.
from include.assets import BRONZE_DONE
from include.dag import announce, fitness_dag
from include.databricks_tasks import layer_jobs
from include.rebuild import LAYER_PARAMS
from include.tags import Tag

with fitness_dag(
    "bronze",
    doc=__doc__,
    tags={Tag.INGEST, Tag.TIER_1},
    params=LAYER_PARAMS,
):
    layer_jobs("bronze") >> announce(BRONZE_DONE)
