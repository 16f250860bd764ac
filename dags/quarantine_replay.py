"""
# Quarantine replay: judge refused records again

## What flows
Records of `ops.quarantine` that are chosen by the parameters are judged by the present rules. Those that are accepted
now are taken in by recomputing their keys from bronze. Readings are produced onto topic `bpm` once more, since the
stream alone writes them. What became of each record is appended to `ops.quarantine_outcomes` and seen in
`ops.quarantine_status`.

## Why this schedule
None: a person starts it after a rule or a mapping has changed. First as a dry run, which says what would become of
how many records and writes nothing.

## Triage notes
- **Red**: its log ends with the job's error; nothing is half done that running it again would not complete.
- **`NotTakenIn`**: the stream did not accept what was produced again; see DAG `bpm_stream`, then replay again.
- **Accepts fewer than expected**: the dry run's log, behind the task's link, counts reasons; is the new rule there?
- Not beside a long run of `silver`: both write its tables, one would be told that it was overtaken. Then clear it.
"""

from airflow.sdk import Param

from include.dag import fitness_dag
from include.databricks_tasks import spark_job
from include.tags import Tag

TOPICS = ["workout", "user_profile", "bpm", "app.registered_users", "app.gym_visits"]
OPTIONAL, NUMBER = ["null", "string"], ["null", "integer"]
MOST = 2**63 - 1  # a BIGINT

PARAMS = {
    "label": Param("workout", type="string", enum=TOPICS, description="Topic or SQL table of the records."),
    "reason": Param(None, type=OPTIONAL, description="Only those refused for this (docs/quarantine.md)."),
    "partition": Param(None, type=NUMBER, minimum=0, maximum=MOST, description="Only those of this partition ..."),
    "from_offset": Param(None, type=NUMBER, minimum=0, maximum=MOST, description="... from this offset ..."),
    "to_offset": Param(None, type=NUMBER, minimum=0, maximum=MOST, description="... to this one, both inclusive."),
    "first_day": Param(None, type=OPTIONAL, format="date", description="Only those first seen from this UTC day ..."),
    "last_day": Param(None, type=OPTIONAL, format="date", description="... to this one, both inclusive."),
    "dry_run": Param(True, type="boolean", description="Only say what would become of them."),
}

with fitness_dag("quarantine_replay", doc=__doc__, tags={Tag.QUALITY, Tag.TIER_3, Tag.MANUAL}, params=PARAMS):
    # a parameter that is not given is an empty text for the job
    spark_job(
        "ops.quarantine_replay",
        *(f"--{name.replace('_', '-')}={{{{ '' if params.{name} is none else params.{name} }}}}" for name in PARAMS),
    )
