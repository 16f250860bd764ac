"""Whether the tests notice when a job's logic is wrong: `python -m bench.mutations --help`.

Each mutation changes one place in a copy of the repository and runs the tests that must turn red.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

REPO = Path(__file__).resolve().parent.parent
LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv", ".fitness*", "__pycache__", ".*_cache", ".hypothesis")
PASSED, FAILED = 0, 1  # what pytest returns
NO_END = 24 * 3600.0  # seconds

FUNCTIONS, INCREMENTAL, WORLDS = (f"tests/spark/test_{name}.py" for name in ("functions", "incremental", "worlds"))
MESSAGES, HOSTILE, EXTRACTION = (f"tests/spark/test_{name}.py" for name in ("messages", "hostile", "extraction"))
BATCH, RECONCILIATION = "tests/spark/test_stream_batch.py", "tests/spark/test_reconciliation.py"
RULES = "tests/spark/test_rules.py"

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Mutation:
    """`old`, which stands in `file` once, becomes `new`; `tests` are pytest's arguments."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def of_table(table: str) -> tuple[str, ...]:
    return (f"{FUNCTIONS}::test_a_table_is_what_the_rules_say[{table}]",)


MUTATIONS = (
    Mutation(
        "the upper bound of an age band is inclusive",
        "spark_jobs/rules.py",
        "band.when(years < high,",
        "band.when(years <= high,",
        of_table("gold.workout_summary"),
    ),
    Mutation(
        "a birthday counts from the day after",
        "spark_jobs/rules.py",
        "F.dayofmonth(day) < F.month(date_of_birth)",
        "F.dayofmonth(day) <= F.month(date_of_birth)",
        of_table("gold.workout_completion"),
    ),
    Mutation(
        "a visit holds the session that starts when it ends",
        "spark_jobs/rules.py",
        '(F.col("start.started_at") < F.col("visit.logout_at"))',
        '(F.col("start.started_at") <= F.col("visit.logout_at"))',
        (f"{RULES}::test_a_visit_holds_a_session_from_its_login_until_before_its_logout",),
    ),
    Mutation(
        "of several visits the earliest holds a session",
        "spark_jobs/rules.py",
        'F.max(F.struct("visit.login_at", "visit.visit_id", "visit.gym_id"))',
        'F.min(F.struct("visit.login_at", "visit.visit_id", "visit.gym_id"))',
        of_table("gold.workout_completion"),
    ),
    Mutation(
        "half a hundredth of a minute is rounded down",
        "spark_jobs/rules.py",
        "micros + 300_000",
        "micros + 299_999",
        (f"{RULES}::test_minutes_are_rounded_half_up",),
    ),
    Mutation(
        "a member is since the latest registration",
        "spark_jobs/silver/users.py",
        'since = F.min(F.when(~F.col("is_deleted"), F.col("registered_at")))',
        'since = F.max(F.when(~F.col("is_deleted"), F.col("registered_at")))',
        of_table("silver.users"),
    ),
    Mutation(
        "of two registrations for one moment the earlier version counts",
        "spark_jobs/silver/user_devices.py",
        '("user_id", "registered_at"), F.col("row_version"))',
        '("user_id", "registered_at"), -F.col("row_version"))',
        of_table("silver.user_devices"),
    ),
    Mutation(
        "a device is worn until the later of two ends",
        "spark_jobs/silver/user_devices.py",
        'F.least("_next", F.lead',
        'F.greatest("_next", F.lead',
        of_table("silver.user_devices"),
    ),
    Mutation(
        "who shared an erased registration's device is not looked at",
        "spark_jobs/silver/user_devices.py",
        'feed.select("user_id", "device_id")',
        'feed.select("user_id", F.lit(None).cast("bigint").alias("device_id"))',
        (f"{INCREMENTAL}::test_an_erased_registration_gives_its_device_back",),
    ),
    Mutation(
        "profile changes are taken by the time that they name",
        "spark_jobs/silver/user_profile.py",
        'F.col("position"))',
        'F.col("changed_at"))',
        of_table("silver.user_profile"),
    ),
    Mutation(
        "a changed key is created before it is deleted",
        "spark_jobs/messages.py",
        'F.when(deleted, "0").otherwise("1")',
        'F.when(deleted, "1").otherwise("0")',
        (*of_table("silver.user_profile"), f"{MESSAGES}::test_profile_changes_are_in_the_order_of_their_source"),
    ),
    Mutation(
        "a profile period begins when its change says, though time went back",
        "spark_jobs/silver/user_profile_history.py",
        "F.max(moment).over(in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow))",
        "F.max(moment).over(in_order.rowsBetween(Window.currentRow, Window.currentRow))",
        of_table("silver.user_profile_history"),
    ),
    Mutation(
        "a visit of nobody is dropped",
        "spark_jobs/silver/gym_visits.py",
        'visit.join(device, worn, "left")',
        'visit.join(device, worn, "inner")',
        of_table("silver.gym_visits"),
    ),
    Mutation(
        "an event said twice is two rows",
        "spark_jobs/silver/workout_events.py",
        ".select(*EVENT).distinct()",
        ".select(*EVENT)",
        of_table("silver.workout_events"),
    ),
    Mutation(
        "a session may be a microsecond longer than three hours",
        "spark_jobs/silver/workout_sessions.py",
        'F.expr(f"started_at + {LONGEST_SESSION}")',
        'F.expr(f"started_at + {LONGEST_SESSION} + INTERVAL 0.000001 SECOND")',
        of_table("silver.workout_sessions"),
    ),
    Mutation(
        "a session is abandoned at three hours sharp",
        "spark_jobs/silver/workout_sessions.py",
        "F.expr(literal(now)) > latest_end",
        "F.expr(literal(now)) >= latest_end",
        of_table("silver.workout_sessions"),
    ),
    Mutation(
        "sessions are not looked at when their three hours are over",
        "spark_jobs/silver/workout_sessions.py",
        "changes.last.clock != changes.job.clock",
        "changes.last.clock > changes.job.clock",
        (f"{INCREMENTAL}::test_an_open_session_is_abandoned_by_the_clock_alone_and_only_after_three_hours",),
    ),
    Mutation(
        "a reading at the start counts in the session",
        "spark_jobs/silver/workout_heart_rate.py",
        'F.col("reading.read_at") > F.col("period.after")',
        'F.col("reading.read_at") >= F.col("period.after")',
        of_table("silver.workout_heart_rate"),
    ),
    Mutation(
        "a session without readings has no summary",
        "spark_jobs/gold/workout_summary.py",
        '.join(beats, [*SESSION], "left")',
        '.join(beats, [*SESSION], "inner")',
        of_table("gold.workout_summary"),
    ),
    Mutation(
        "workouts of a day are listed as often as they were done",
        "spark_jobs/gold/gym_activity.py",
        'F.array_distinct(F.flatten(F.collect_list("workouts")))',
        'F.flatten(F.collect_list("workouts"))',
        of_table("gold.gym_activity"),
    ),
    Mutation(
        "a reading speaks for at most 16 seconds",
        "spark_jobs/gold/user_activity.py",
        "timedelta(seconds=15)",
        "timedelta(seconds=16)",
        of_table("gold.user_activity"),
    ),
    Mutation(
        "a zone begins above its border",
        "spark_jobs/gold/user_activity.py",
        'hundredfold >= F.col("maximal") * floor',
        'hundredfold > F.col("maximal") * floor',
        of_table("gold.user_activity"),
    ),
    Mutation(
        "who began in the evening before the days that change has a streak of that",
        "spark_jobs/gold/user_activity.py",
        'F.col("activity_date") >= F.lit(since)',
        "F.lit(True)",
        (f"{INCREMENTAL}::test_a_streak_goes_on_from_the_days_before_those_that_change_whatever_began_that_evening",),
    ),
    Mutation(
        "a session that leaves a visit does not touch where it was",
        "spark_jobs/gold/touches.py",
        'held = Slice.of(feed.where("user_id IS NOT NULL")',
        'held = Slice.of(feed.where("_change_type <> \'update_preimage\'").where("user_id IS NOT NULL")',
        (f"{INCREMENTAL}::test_a_visit_that_ends_earlier_gives_its_session_back",),
    ),
    Mutation(
        "the change feed is read without its first version",
        "spark_jobs/incremental.py",
        "change_feed(job, source, read[source] + 1, latest[source])",
        "change_feed(job, source, min(read[source] + 2, latest[source]), latest[source])",
        (f"{INCREMENTAL}::test_what_comes_in_several_commits_is_read_whole",),
    ),
    Mutation(
        "rows that a source lost are not taken away",
        "spark_jobs/incremental.py",
        '.when(F.col("_wanted").isNull(), F.array(F.lit("delete")))',
        '.when(F.col("_wanted").isNull(), None)',
        (f"{INCREMENTAL}::test_a_deleted_source_row_takes_its_row_away",),
    ),
    Mutation(
        "ignored records are counted as duplicates",
        "spark_jobs/incremental.py",
        " - outcome.rows_ignored[label]\n",
        "\n",
        (f"{HOSTILE}::test_jobs_account_for_every_message_in_any_parts_and_the_second_time_do_nothing",),
    ),
    Mutation(
        "a heart at 20 beats is accepted",
        "spark_jobs/messages.py",
        "(bpm <= LOWEST_BPM) | (bpm > HIGHEST_BPM)",
        "(bpm < LOWEST_BPM) | (bpm > HIGHEST_BPM)",
        (f"{MESSAGES}::test_a_reading_is_judged_as_the_rules_say",),
    ),
    Mutation(
        "more after a JSON value is not seen",
        "spark_jobs/messages.py",
        '"$[1]", "string") == checksum(named)',
        '"$[1]", "string") != ""',
        (f"{MESSAGES}::test_a_reading_is_judged_as_the_rules_say",),
    ),
    Mutation(
        "the last reading of an instant stands",
        "spark_jobs/streaming/readings.py",
        'F.desc("known"), "kafka_timestamp", "partition", "offset"',
        'F.desc("known"), F.desc("kafka_timestamp"), "partition", "offset"',
        (f"{BATCH}::test_whatever_the_batches_the_tables_are_the_oracles",),
    ),
    Mutation(
        "of a minute's many devices only some are looked up",
        "spark_jobs/streaming/readings.py",
        "devices if len(devices) <= FEW_DEVICES else None",
        "devices",
        (f"{BATCH}::test_what_the_table_holds_of_few_or_of_many_devices_of_a_minute_is_known_when_it_comes_again",),
    ),
    Mutation(
        "the trend of a minute forgets what was there",
        "spark_jobs/streaming/readings.py",
        'held.select(*wanted).union(rows.where(F.col("outcome") == NEW).select(*wanted))',
        'rows.where(F.col("outcome") == NEW).select(*wanted)',
        (f"{BATCH}::test_whatever_the_batches_the_tables_are_the_oracles",),
    ),
    Mutation(
        "a new reading that is written already counts twice in its minute",
        "spark_jobs/streaming/readings.py",
        ".localCheckpoint()",
        "",
        (f"{BATCH}::test_what_a_batch_found_stays_as_it_was_when_the_new_readings_are_written",),
    ),
    Mutation(
        "the lowest of a minute is the highest",
        "spark_jobs/streaming/readings.py",
        'F.min("bpm").alias("min_bpm")',
        'F.max("bpm").alias("min_bpm")',
        of_table("gold.bpm_trends"),
    ),
    Mutation(
        "a time may have a line break behind it",
        "spark_jobs/messages.py",
        '(Z|[+-][0-9]{2}:?[0-9]{2})\\z"',
        '(Z|[+-][0-9]{2}:?[0-9]{2})$"',
        (f"{MESSAGES}::test_a_reading_is_judged_as_the_rules_say",),
    ),
    Mutation(
        "the short cut takes a reading that is too far ahead",
        "spark_jobs/streaming/readings.py",
        'F.unix_micros("kafka_timestamp") + FUTURE',
        'F.unix_micros("kafka_timestamp") + 2 * FUTURE',
        (f"{BATCH}::test_the_short_cut_reads_as_the_strict_rules_do",),
    ),
    Mutation(
        "conflicting readings are not put into quarantine",
        "spark_jobs/streaming/batch.py",
        "conflicts = readings.conflicts(rows, parsed)",
        "conflicts = None",
        (f"{BATCH}::test_whatever_the_batches_the_tables_are_the_oracles",),
    ),
    Mutation(
        "duplicates of the stream are not counted",
        "spark_jobs/streaming/batch.py",
        '"duplicate": counts[readings.DUPLICATE]',
        '"duplicate": 0',
        (f"{HOSTILE}::test_the_stream_accounts_for_every_reading",),
    ),
    Mutation(
        "extraction reads what is not final",
        "spark_jobs/bronze/dialects.py",
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS in_flight",
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS in_flight",
        (f"{EXTRACTION}::test_what_commits_late_is_read_by_a_later_run_and_nothing_twice",),
    ),
    Mutation(
        "a deletion has the number of what may come back",
        "spark_jobs/bronze/extraction.py",
        "F.lit(high - 1)",
        "F.lit(high + 1)",
        (f"{EXTRACTION}::test_deletions_are_seen_beside_insertions_under_open_transactions_and_after_a_return",),
    ),
    Mutation(
        "of a version and its deletion the version stands",
        "spark_jobs/bronze/extraction.py",
        'F.col("row_version"), F.col("is_deleted"))',
        'F.col("row_version"), ~F.col("is_deleted"))',
        (f"{EXTRACTION}::test_deletions_are_seen_beside_insertions_under_open_transactions_and_after_a_return",),
    ),
    Mutation(
        "a run reads from one version later on",
        "spark_jobs/bronze/extraction.py",
        "run.outcome.source_versions |= {source.table: high,",
        "run.outcome.source_versions |= {source.table: high + 1,",
        (f"{EXTRACTION}::test_any_interleaving_of_transactions_and_runs_ends_with_the_table",),
    ),
    Mutation(
        "the last number given out counts as final",
        "spark_jobs/bronze/dialects.py",
        "pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS in_flight",
        "pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS in_flight",
        (f"{EXTRACTION}::test_runs_beside_writers_that_never_rest_lose_nothing",),
    ),
    Mutation(
        "an overtaken run does not say that it has not written",
        "spark_jobs/incremental.py",
        "if committed is None:",
        "if committed is None and not table:",
        (f"{EXTRACTION}::test_of_two_runs_at_once_the_overtaken_one_writes_nothing",),
    ),
    Mutation(
        "a row that came back is counted as one more",
        "spark_jobs/bronze/extraction.py",
        "live += fresh.count() - known_of(run, source, fresh)",
        "live += fresh.count()",
        (f"{EXTRACTION}::test_a_run_that_only_adds_and_changes_does_not_compare_keys",),
    ),
    Mutation(
        "what a run left that died is taken as counted",
        "spark_jobs/bronze/extraction.py",
        "if live is not None and known.limit(1).count():",
        "if live is not None and known.limit(0).count():",
        (f"{EXTRACTION}::test_a_run_that_dies_after_its_rows_is_repaired_by_the_next",),
    ),
    Mutation(
        "reconciliation does not see a row that is there twice",
        "spark_jobs/quality/sources.py",
        'where("count > 1")',
        'where("count > 2")',
        (f"{EXTRACTION}::test_reconciliation_finds_what_bronze_lost_doubled_or_changed",),
    ),
    Mutation(
        "periods of a profile may overlap",
        "spark_jobs/quality/periods.py",
        "valid_to > next_from",
        "valid_to > next_from + INTERVAL 1 DAY",
        (f"{RECONCILIATION}::test_periods_that_overlap_or_leave_a_gap_are_wrong",),
    ),
)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Only those with this in name or file; repeatable.")] = None,
    show: Annotated[bool, typer.Option("--list", help="Say what there is, and run nothing.")] = False,
    minutes: Annotated[float, typer.Option(help="A test that takes longer has noticed, too.")] = 10,
) -> None:
    """Break the jobs in one place after the other, in a copy, and see that the tests named for it turn red.

    The exit code is 0 when every mutation was noticed; 1 when one survived, could not be applied since its text does
    not stand in its file exactly once, or its tests could not be run or are red without it.
    """
    chosen = [m for m in MUTATIONS if not only or any(part in m.name or part in m.file for part in only)]
    if show:
        for mutation in chosen:
            print(f"{mutation.file}: {mutation.name}")
        return
    if not chosen:
        raise typer.BadParameter("none has that in its name or file", param_hint="--only")
    results = Table("mutation", "file", "result", "seconds")
    survived = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = Path(folder) / "repo"
        shutil.copytree(REPO, copy, ignore=LEFT_BEHIND)
        (copy / ".venv").symlink_to((REPO / ".venv").resolve())
        begun = time.monotonic()
        if tested(sorted({test for mutation in chosen for test in mutation.tests}), copy, NO_END) != PASSED:
            console.print("The tests are red without any mutation, so they would say nothing.")
            raise typer.Exit(1)
        console.print(f"{time.monotonic() - begun:5.0f} s  all tests are green without a mutation")
        for mutation in chosen:
            begun = time.monotonic()
            result = tried(mutation, copy, 60 * minutes)
            seconds = time.monotonic() - begun
            survived += result != "killed"
            console.print(f"{seconds:5.0f} s  {result:9} {mutation.name}", markup=False)
            results.add_row(mutation.name, mutation.file, result, f"{seconds:.0f}")
    Console().print(results)
    raise typer.Exit(1 if survived else 0)


def tried(mutation: Mutation, copy: Path, seconds: float) -> str:
    """What became of a mutation: killed, survived, or why it says nothing. The copy is left as it was."""
    file = copy / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        return f"is not there once but {text.count(mutation.old)} times"
    file.write_text(text.replace(mutation.old, mutation.new))
    try:
        code = tested(mutation.tests, copy, seconds)
    except subprocess.TimeoutExpired:
        return "killed"
    finally:
        file.write_text(text)
    return {PASSED: "survived", FAILED: "killed"}.get(code, f"pytest returned {code}")


def tested(tests: Sequence[str], copy: Path, seconds: float) -> int:
    """What pytest returns for these tests. Raises TimeoutExpired after so many seconds."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    ended = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=seconds)
    if ended.returncode not in (PASSED, FAILED):
        console.print(ended.stdout[-2000:], ended.stderr[-2000:], markup=False)
    return ended.returncode


if __name__ == "__main__":
    typer.run(main)
