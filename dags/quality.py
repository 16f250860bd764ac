"""
# Quality: do the tables hold what the sources said?

## What flows
Nothing is changed. Each job looks at what is new since its last good run and appends what it found:

- `reconciliation` writes `ops.reconciliation`: sources = bronze, Kafka = bronze, bronze = silver + duplicates +
  quarantine, silver and gold = what lies beneath them.
- `lateness` writes `ops.lateness` (how late records came), `ops.late_changes` (which gold rows that changed) and
  `ops.unknown_fields` (fields in messages that nobody reads).

Rows that their own job has not read yet, or that a batch of the stream has half written and not ended, are *pending*,
not wrong, so this may run at any time.

## Why this schedule
Often enough that a defect is known before many have seen it, seldom enough to cost little. What is new is looked at;
`rebuild` with `quality.reconciliation` looks at some days, or at everything.

## Triage notes
- **`reconciliation` is red with `DefectsFound`**: its log lists tables, counts and keys; so does
  `SELECT * FROM ops.reconciliation WHERE verdict = 'defect' ORDER BY checked_at DESC`. It stays red until that is
  repaired. Go on with `docs/runbooks/reconciliation_defect.md`.
- **Red with `NotCompared`**: a source could not be asked (Kafka, SQL down?). What could be compared was.
- **Red with anything else**: a fault of the job; the tables are not in doubt.
- Safe at any time: clear, rerun.
"""

# Airflow looks for a DAG only in files in which its own name occurs.
from include.dag import fitness_dag
from include.databricks_tasks import layer_jobs
from include.rebuild import LAYER_PARAMS
from include.tags import Tag

with fitness_dag("quality", doc=__doc__, tags={Tag.QUALITY, Tag.TIER_2}, can_wait=True, params=LAYER_PARAMS):
    layer_jobs("quality")
