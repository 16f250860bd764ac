"""
# Migrations: bring tables to what their declarations have become

## What flows
The files of `spark_jobs/migrations` that have not been applied yet, in their order, once each. Then every table is
compared with its declaration. `ops.migrations` says what was applied when. How a column is added:
`docs/schema-changes.md`.

## Why this schedule
None: it belongs to a deployment that brings new files. Running it without any changes nothing.

## Triage notes
- **`UndeclaredDifference`**: a declaration was changed without a migration; the log names table and columns.
- **`MigrationChanged`**: a file that was applied is not what it was. Put it back, and write a new one.
- **Red halfway**: clear it; what was done is recognised.
"""

# Airflow looks for a DAG only in files in which its own name occurs.
from include.dag import fitness_dag
from include.databricks_tasks import spark_job
from include.tags import Tag

with fitness_dag("migrations", doc=__doc__, tags={Tag.MAINTENANCE, Tag.TIER_3, Tag.MANUAL}):
    spark_job("ops.migrations")
