"""
# Gold: what people look at

## What flows
| table | from silver |
|---|---|
| `workout_summary` | sessions, their readings, visits, profiles |
| `workout_completion` | sessions, visits, profiles |
| `gym_activity` | visits, sessions |
| `user_activity` | visits, sessions, their readings, profiles |

The tables do not depend on each other. `gold.bpm_trends` is kept by the BPM stream.

## Why this schedule
At the end of each `silver` run, through an asset, also when a silver table failed there: gold is then computed from
that table as it last was.

## Triage notes
- **A task is red**: its log ends with the job's Python error. The other tables are not concerned.
- **Figures are old but all is green**: look further up; a red `bronze` or `silver` task is the source of it.
- **Deadline missed**: dashboards are stale from now on. See which task is longest, and its run's page.
- Safe at any time: clear, rerun. Running anything twice changes nothing.
"""

# Airflow looks for a DAG only in files in which its own name occurs.
from include.assets import SILVER_DONE
from include.dag import fitness_dag
from include.databricks_tasks import layer_jobs
from include.rebuild import LAYER_PARAMS
from include.tags import Tag

with fitness_dag(
    "gold",
    doc=__doc__,
    tags={Tag.REFINE, Tag.TIER_1},
    started_by=SILVER_DONE,
    params=LAYER_PARAMS,
):
    layer_jobs("gold")
