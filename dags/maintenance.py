"""
# Maintenance: few files instead of many

## What flows
Nothing: every table holds afterwards what it held before. Tables that batch jobs write, and of `bronze.kafka_multiplex`
the topics that they write, have their small files packed (OPTIMIZE; the stream packs its own), and of all tables the
files are deleted that nothing has referred to for a week (VACUUM). So a table can be read as it was up to a week ago,
and a job that did not run for longer recomputes instead of following changes.

## Why this schedule
When little else runs. A day without it costs some milliseconds a query.

## Triage notes
- **Red**: nothing is wrong with any table; clear it, or let the next one do it.
- **A job of silver or gold red with a `Concurrent...` error at the same time**: it met the packing of its table. Its
  retry passes.
- Where Databricks' predictive optimization is on, this may be paused.
"""

# Airflow looks for a DAG only in files in which its own name occurs.
from include.dag import fitness_dag
from include.databricks_tasks import spark_job
from include.tags import Tag

with fitness_dag("maintenance", doc=__doc__, tags={Tag.MAINTENANCE, Tag.TIER_3}, can_wait=True):
    spark_job("ops.maintenance")
