"""Extraction from a real PostgreSQL: whatever transactions do meanwhile, bronze loses nothing and has nothing twice."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import errors, sql
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from local.home import Home
from local.services import postgres
from local.services.part import alone
from spark_jobs import incremental, job, slices
from spark_jobs.bronze import extraction, gym_visits, registrations
from spark_jobs.job import LastRun
from spark_jobs.platform import Platform
from spark_jobs.quality import reconciliation, sources
from spark_jobs.quality.comparison import Finding
from spark_jobs.quality.pinned import BOOKS, pin
from spark_jobs.quarantine import QUARANTINE
from tests.ports import free_port_base
from tests.spark.pipeline import ARRIVAL, Pipeline
from tests.spark.pipeline import VISITS as VISITS_SCHEMA
from tests.spark.test_overlap import TRANSACTION

FEW_EXAMPLES = 3
EXAMPLES = int(os.environ.get("FITNESS_WORLDS", FEW_EXAMPLES))
VISITS, REGISTRATIONS = gym_visits.SOURCE, registrations.SOURCE
SILVER = ("silver.users", "silver.user_devices", "silver.gym_visits")


class Version(NamedTuple):
    """A row of `bronze` or of its source: the source's columns in their order, times as microseconds."""

    key: int
    values: tuple[Any, ...]
    row_version: int
    is_deleted: bool = False


@dataclass
class Database:
    """The source, asked by its owner."""

    home: Home

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.home.port("postgres"),
            dbname="fitness",
            user="fitness",
            password=self.home.secrets["postgres_password"],
            **options,
        )

    def execute(self, statement: str, *parameters: Any) -> None:
        """In a transaction of its own."""
        with self.connect(autocommit=True) as connection:
            connection.execute(statement, parameters or None)

    def rows(self, source: extraction.Source) -> dict[int, Version]:
        """What the table holds, by key."""
        columns = [
            sql.SQL("(extract(epoch FROM {}) * 1000000)::bigint" if kind == "TIMESTAMP" else "{}").format(
                sql.Identifier(name)
            )
            for name, kind in source.columns.items()
        ]
        query = sql.SQL("SELECT {}, row_version FROM {}").format(
            sql.SQL(", ").join(columns), sql.Identifier(*source.table.split("."))
        )
        with self.connect() as connection:
            return {row[0]: Version(row[0], row[1:-1], row[-1]) for row in connection.execute(query)}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A PostgreSQL as the stack runs it, with the sources' schema."""
    home = Home(tmp_path_factory.mktemp("home"), free_port_base())
    with alone(postgres.PART, home):
        assert postgres.PART.settle is not None
        postgres.PART.settle(home)
        yield Database(home)


@dataclass
class Lake:
    """Bronze, filled from the database."""

    database: Database
    pipeline: Pipeline

    def run(self, source: extraction.Source = VISITS, *arguments: str) -> None:
        """Run the job of a source."""
        where = ("--jdbc-url", self.database.home.jdbc_url, "--sql-user", "fitness")
        self.pipeline.run(source.target, *where, *arguments)

    def extract(self, source: extraction.Source = VISITS, *arguments: str) -> dict[str, Any]:
        """Run the job of a source, and hold what bronze says against the source. Returns the run's outcome."""
        self.run(source, *arguments)
        outcome = self.pipeline.outcome(source.target)
        read = dict(outcome["source_versions"])
        living, present = self.living(source), self.database.rows(source)
        final = {key: row for key, row in present.items() if row.row_version < read[source.table]}
        assert {key: living.get(key) for key in final} == final, "bronze lacks what the source has"
        assert not living.keys() - present.keys(), "bronze holds what is gone"
        assert read[source.live] == len(living), "the books hold another number than bronze"
        return outcome

    def versions(self, source: extraction.Source = VISITS) -> list[Version]:
        """All of bronze, none of it twice."""
        columns = [
            F.unix_micros(name).alias(name) if kind == "TIMESTAMP" else F.col(name)
            for name, kind in source.columns.items()
        ]
        rows = self.pipeline.spark.table(source.target).select(*columns, "row_version", "is_deleted").toArrow()
        found = [
            Version(values[0], tuple(values[1:-2]), *values[-2:])
            for values in zip(*(column.to_pylist() for column in rows.columns), strict=True)
        ]
        doubled = [place for place, count in Counter((v.key, v[2:]) for v in found).items() if count > 1]
        assert not doubled, "bronze holds a version twice"
        return found

    def living(self, source: extraction.Source = VISITS) -> dict[int, Version]:
        """The latest version of each row, by key, without those deleted."""
        last: dict[int, Version] = {}
        for version in sorted(self.versions(source), key=lambda version: version[2:]):
            last[version.key] = version
        return {key: version for key, version in last.items() if not version.is_deleted}

    def rows_out(self, outcome: dict[str, Any], source: extraction.Source = VISITS) -> int:
        return dict(outcome["rows_out"]).get(source.target, 0)


@pytest.fixture
def lake(spark: SparkSession, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    monkeypatch.setenv("FITNESS_SQL_PASSWORD", database.home.secrets["postgres_password"])
    for source in (VISITS, REGISTRATIONS):
        database.execute(f"TRUNCATE {source.table}")
    pipeline = Pipeline(spark, tmp_path, tables=())
    yield Lake(database, pipeline)
    pipeline.forget()


INSERT = "INSERT INTO app.gym_visits (visit_id, mac_address, gym_id, login_at) VALUES (%s, %s, 7, '2024-03-01 10:00Z')"
LEAVE = "UPDATE app.gym_visits SET logout_at = coalesce(logout_at, login_at) + interval '1 s' WHERE visit_id = %s"
DELETE = "DELETE FROM app.gym_visits WHERE visit_id = %s"


def test_what_commits_late_is_read_by_a_later_run_and_nothing_twice(lake: Lake) -> None:
    database = lake.database
    database.execute(INSERT, 1, "early")
    with database.connect() as late, database.connect() as undone:
        late.execute(INSERT, (2, "late"))
        late.execute(LEAVE, (1,))
        undone.execute(INSERT, (3, "undone"))
        undone.execute("SAVEPOINT part")
        database.execute(INSERT, 4, "between")  # has a later version, and commits first
        lake.extract()
        assert lake.living()[1].values[-1] is None
        database.execute(INSERT, 5, "later")
        lake.extract()
        late.commit()
        undone.rollback()
        lake.extract()
    assert lake.living() == database.rows(VISITS) and set(lake.living()) == {1, 2, 4, 5}
    assert lake.rows_out(lake.extract()) == 0
    assert len(lake.versions()) == 5


def test_deletions_are_seen_beside_insertions_under_open_transactions_and_after_a_return(lake: Lake) -> None:
    database = lake.database
    for visit in range(1, 6):
        database.execute(INSERT, visit, f"mac-{visit}")
    database.execute(INSERT, 8, "with the last version that is final, so its deletion has the same number")
    lake.extract()
    with database.connect() as open_one:
        open_one.execute(LEAVE, (5,))
        database.execute(DELETE, 8)
        database.execute(DELETE, 1)
        database.execute(DELETE, 2)
        database.execute(INSERT, 2, "back before it was missed")
        database.execute(INSERT, 6, "as many as before")
        lake.extract()
        assert set(lake.living()) == {2, 3, 4, 5}  # the last version of 2 is not final yet
        database.execute(INSERT, 1, "back after it was missed")
        open_one.execute(DELETE, (3,))
        open_one.execute(INSERT, (3, "back in one transaction"))
        lake.extract()
        open_one.commit()
    lake.extract()
    assert lake.living() == database.rows(VISITS) and set(lake.living()) == set(range(1, 7))
    database.execute(DELETE, 4)
    database.execute("UPDATE app.gym_visits SET visit_id = 44 WHERE visit_id = 5")
    database.execute(INSERT, 7, "as many as before")
    lake.extract()
    assert set(lake.living()) == {1, 2, 3, 6, 7, 44}
    database.execute(DELETE, 1)
    lake.extract()
    database.execute(INSERT, 1, "back a second time")
    lake.extract()
    assert lake.living() == database.rows(VISITS)


def test_a_run_that_dies_after_its_rows_is_repaired_by_the_next(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    database = lake.database
    for visit in (1, 2):
        database.execute(INSERT, visit, "x")
    lake.extract()
    database.execute(INSERT, 3, "x")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(job, "record", dies)
        with pytest.raises(KeyboardInterrupt):
            lake.extract()
    database.execute(DELETE, 1)  # now there are as many as the books say
    lake.extract()
    assert set(lake.living()) == {2, 3}


def test_a_run_that_only_adds_and_changes_does_not_compare_keys(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for visit in range(1, 5):
        lake.database.execute(INSERT, visit, "x")
    lake.extract()
    monkeypatch.setattr(extraction, "gone", lambda *_: pytest.fail("keys are compared"))
    lake.database.execute(LEAVE, 1)
    lake.database.execute(INSERT, 5, "x")
    lake.extract()
    lake.extract()
    assert lake.living() == lake.database.rows(VISITS)


def test_reconciliation_finds_what_bronze_lost_doubled_or_changed(lake: Lake) -> None:
    for visit in range(1, 6):
        lake.database.execute(INSERT, visit, "x")
    lake.extract()
    assert audited(lake).defects == 0
    lake.database.execute(INSERT, 6, "has not been read yet")
    assert audited(lake).defects == 0
    for statement in (
        "DELETE FROM bronze.gym_visits WHERE visit_id = 1",
        "INSERT INTO bronze.gym_visits SELECT * FROM bronze.gym_visits WHERE visit_id = 2",
        "UPDATE bronze.gym_visits SET gym_id = 8 WHERE visit_id = 3",
        "INSERT INTO bronze.gym_visits SELECT 99, * EXCEPT (visit_id) FROM bronze.gym_visits WHERE visit_id = 4",
    ):
        lake.pipeline.spark.sql(statement)
    found = audited(lake)
    assert (found.missing, found.doubled, found.changed, found.unexpected) == (1, 1, 1, 1)
    lake.run(VISITS, "--full")
    found = audited(lake)
    assert (found.missing, found.doubled, found.changed, found.unexpected) == (0, 1, 1, 0)


@pytest.mark.parametrize(
    "mended",
    [
        ["RESTORE TABLE bronze.gym_visits TO VERSION AS OF {version}"],
        [
            "DELETE FROM bronze.gym_visits WHERE visit_id IN (2, 4, 99)",
            "INSERT INTO bronze.gym_visits SELECT * FROM bronze.gym_visits VERSION AS OF {version}"
            " WHERE visit_id IN (1, 2, 4)",
            "UPDATE bronze.gym_visits SET gym_id = 7 WHERE visit_id = 3",
        ],
    ],
    ids=["restored", "by hand"],
)
def test_what_was_mended_in_bronze_is_whole_again(lake: Lake, mended: list[str]) -> None:
    for visit in range(1, 6):
        lake.database.execute(INSERT, visit, "x")
    lake.extract()
    lake.database.execute(LEAVE, 3)
    lake.extract()
    found, seen = looked_at(lake)
    assert found.defects == 0
    version = seen.source_versions[f"source:{VISITS.target}"]
    for statement in (
        "DELETE FROM bronze.gym_visits WHERE visit_id = 1",
        "INSERT INTO bronze.gym_visits SELECT * FROM bronze.gym_visits WHERE visit_id IN (2, 4)",
        "UPDATE bronze.gym_visits SET gym_id = 8 WHERE visit_id = 3 AND logout_at IS NULL",  # an earlier version
        "INSERT INTO bronze.gym_visits SELECT 99, * EXCEPT (visit_id) FROM bronze.gym_visits WHERE visit_id = 5",
    ):
        lake.pipeline.spark.sql(statement)
    found, _ = looked_at(lake, seen)
    assert (found.missing, found.doubled, found.unexpected) == (3, 2, 1), found  # visit 1 as row and as version
    for statement in mended:
        lake.pipeline.spark.sql(statement.format(version=version))
    assert looked_at(lake, seen)[0].defects == 0


def audited(lake: Lake) -> Finding:
    """How reconciliation compares the source with bronze, when it looks at everything."""
    return looked_at(lake)[0]


def looked_at(lake: Lake, since: LastRun | None = None) -> tuple[Finding, LastRun]:
    """How reconciliation compares the source with bronze, and what it has then seen: with `since`, a clean look."""
    looks: list[tuple[Finding, LastRun]] = []

    def look(run: job.Job) -> None:
        [found], versions = sources.audit(pin(run, [VISITS.target]), VISITS, since)
        looks.append((found, LastRun(versions, run.clock)))

    home = lake.database.home
    where = ["--catalog", "spark_catalog", "--storage-root", str(lake.pipeline.lake)]
    argv = [*where, "--jdbc-url", home.jdbc_url, "--sql-user", "fitness"]
    job.run("quality.reconciliation", argv, look, [*BOOKS, QUARANTINE, VISITS.target], reconciliation.arguments())
    return looks[0]


@pytest.mark.parametrize("few", [pytest.param(5_000, id="held by the client"), pytest.param(2, id="too many for it")])
def test_a_run_says_how_many_rows_it_wrote(lake: Lake, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(slices, "FEW", few)
    lake.database.execute(
        "INSERT INTO app.gym_visits (visit_id, login_at) SELECT n, '2024-03-01 10:00Z' FROM generate_series(1, 6) n"
    )
    assert lake.rows_out(lake.extract()) == 6
    lake.database.execute("UPDATE app.gym_visits SET gym_id = visit_id")
    assert lake.rows_out(lake.extract()) == 6
    lake.database.execute("DELETE FROM app.gym_visits WHERE visit_id < 5")
    outcome = lake.extract()
    assert (lake.rows_out(outcome), dict(outcome["rows_in"])[VISITS.table]) == (4, 4)


def test_a_source_that_was_restored_is_noticed_and_read_anew_when_asked_for(lake: Lake) -> None:
    lake.database.execute(INSERT, 1, "x")
    lake.extract()
    read = dict(lake.pipeline.outcome(VISITS.target)["source_versions"])[VISITS.table]
    lake.pipeline.write(VISITS.target, [(2, "lost", 7, ARRIVAL, None, read + 10**6, False, ARRIVAL)], VISITS_SCHEMA)
    note = lake.pipeline.outcome(VISITS.target) | {"source_versions": {VISITS.table: read + 10**6 + 1, VISITS.live: 2}}
    _say(lake, note)
    with pytest.raises(extraction.SourceWentBack, match="--full"):
        lake.extract()
    lake.extract(VISITS, "--full")
    lake.database.execute(INSERT, 3, "after the restore")
    lake.extract()
    assert lake.living() == lake.database.rows(VISITS) and set(lake.living()) == {1, 3}


def test_a_source_that_was_restored_and_has_outgrown_what_was_read_is_noticed(lake: Lake) -> None:
    lake.database.execute(INSERT, 1, "x")
    lake.extract()
    for number in (2, 3):  # 2 gets a version that the source from before the restore had given away
        lake.database.execute(INSERT, number, "after the restore")
    books = {VISITS.table: lake.database.rows(VISITS)[2].row_version + 1, VISITS.live: 1}
    _say(lake, lake.pipeline.outcome(VISITS.target) | {"source_versions": books})
    with pytest.raises(extraction.SourceWentBack, match="--full"):
        lake.extract()
    lake.extract(VISITS, "--full")
    lake.extract()
    assert lake.living() == lake.database.rows(VISITS) and set(lake.living()) == {1, 2, 3}


def test_after_a_restore_rows_are_as_the_source_has_them_again_where_bronze_knows_later_versions(lake: Lake) -> None:
    for number in (1, 2, 3):
        lake.database.execute(INSERT, number, "x")
    lake.extract()
    versions = {key: row.row_version for key, row in lake.database.rows(VISITS).items()}
    for _ in range(20):
        lake.database.execute("SELECT pg_current_xact_id()")
    # in the time that the restore has taken away 1 was changed and 2 deleted
    later = [(1, "lost", 7, ARRIVAL, None, versions[1] + 5, False, ARRIVAL)]
    later += [(2, "x", 7, ARRIVAL, None, versions[2] + 5, True, ARRIVAL)]
    lake.pipeline.write(VISITS.target, later, VISITS_SCHEMA)
    lake.extract(VISITS, "--full")
    assert lake.living() == lake.database.rows(VISITS)
    history = lake.pipeline.spark.sql(f"DESCRIBE HISTORY {VISITS.target} LIMIT 3").collect()
    assert sum((commit["userMetadata"] or "").startswith("erasure") for commit in history) == 1
    lake.extract(VISITS, "--full")
    assert lake.rows_out(lake.extract()) == 0
    assert lake.living() == lake.database.rows(VISITS)


def test_of_two_runs_at_once_the_overtaken_one_writes_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.database.execute(INSERT, 1, "x")
    append = extraction.append

    def append_after_another_run(run: job.Job, *given: Any, **named: Any) -> None:
        monkeypatch.setattr(extraction, "append", append)
        ours = {name: run.spark.conf.get(name) for name in TRANSACTION}
        lake.extract()
        for name, value in ours.items():  # the other run has a session of its own; here it shares ours
            run.spark.conf.set(name, value)
        run.spark.conf.unset(incremental.LAST_COMMIT)
        append(run, *given, **named)

    monkeypatch.setattr(extraction, "append", append_after_another_run)
    with pytest.raises(incremental.Overtaken, match=r"bronze\.gym_visits"):
        lake.extract()
    assert len(lake.versions()) == 1
    lake.extract()


def _say(lake: Lake, outcome: dict[str, Any]) -> None:
    """Let the books say that the job of visits ran once more, with this outcome."""
    run = job.Job(
        VISITS.target, lake.pipeline.spark, Platform(str(lake.pipeline.lake)), "spark_catalog", "x",
        outcome["clock"], job.Rebuild(), None,  # type: ignore[arg-type]
        job.Outcome(source_versions=outcome["source_versions"]),
    )  # fmt: skip
    job.record(run, outcome["clock"])


HOSTILE = [
    "'; DROP TABLE app.gym_visits; --",
    "\\' OR 1=1 \\",
    '"quoted" `ticks` ${jdbc_url} $(id) %s {0}',
    "../../etc/passwd",
    "file:///lake/bronze?x=1#y",
    "\u0001\u001f\u007f\ufeff\u2028\u202e",
    "\U0001f3c3\u200d\u2640\ufe0f e\u0301 \U0010ffff",
    "",
    " ",
    "NULL",
    "x" * 1_000_000,
]
TIMES = {
    "infinity": "out_of_range",
    "-infinity": "before_2000",
    "294276-12-31 23:59:59.999999Z": "out_of_range",
    "294247-01-10 04:00:54.775807Z": "out_of_range",
    "10000-01-01 00:00:00Z": "out_of_range",
    "9999-12-31 23:59:59.999999Z": None,
    "2000-01-01 00:00:00Z": None,
    "1999-12-31 23:59:59.999999Z": "before_2000",
    "1582-10-10 00:00:00Z": "before_2000",
    "0001-01-01 00:00:00Z": "before_2000",
    "0001-12-31 23:59:59Z BC": "before_2000",
    "4713-01-01 00:00:00Z BC": "before_2000",
}


def test_hostile_texts_and_impossible_times_land_or_are_refused_and_fail_no_job(lake: Lake) -> None:
    with lake.database.connect() as connection:
        for number, text in enumerate(HOSTILE, 1):
            connection.execute(INSERT, (number, text))
            values = (number, number, text)
            connection.execute("INSERT INTO app.registered_users VALUES (%s, %s, %s, '2024-01-01Z')", values)
        for number, moment in enumerate(TIMES, 101):
            connection.execute("INSERT INTO app.gym_visits VALUES (%s, 'x', 7, %s)", (number, moment))
            connection.execute("INSERT INTO app.registered_users VALUES (%s, %s, 'x', %s)", (number, number, moment))
        for number, moment in enumerate(TIMES, 201):
            values = (number, "2000-01-01Z", moment)
            connection.execute("INSERT INTO app.gym_visits VALUES (%s, 'x', 7, %s, %s)", values)
        connection.execute("INSERT INTO app.gym_visits VALUES (301), (-9223372036854775808), (9223372036854775807)")
    for source in (REGISTRATIONS, VISITS):
        lake.run(source)
        texts = {key: version.values[source is REGISTRATIONS] for key, version in lake.living(source).items()}
        assert [texts[number] for number in range(1, len(HOSTILE) + 1)] == HOSTILE
        assert len(texts) == len(HOSTILE) + (len(TIMES) if source is REGISTRATIONS else 2 * len(TIMES) + 3)
        files = lake.pipeline.lake / source.target.replace(".", "/")
        assert DeltaTable(files).to_pyarrow_table().num_rows == len(texts), "another reader than Spark"
    for silver in SILVER:
        lake.pipeline.run(silver)

    refused = {(row["source"], int(row["key"])): row["reason"] for row in lake.pipeline.rows("ops.quarantine")}
    expected = {
        (source.table, number): reason
        for source in (REGISTRATIONS, VISITS)
        for number, reason in enumerate(TIMES.values(), 101)
    }
    expected |= {(VISITS.table, number): reason for number, reason in enumerate(TIMES.values(), 201)}
    expected |= {(VISITS.table, key): "missing_field" for key in (301, -(2**63), 2**63 - 1)}
    assert refused == {place: reason for place, reason in expected.items() if reason}
    visits = {row["visit_id"]: row for row in lake.pipeline.rows("silver.gym_visits")}
    accepted = {place for place, reason in expected.items() if reason is None}
    assert set(visits) == {*range(1, len(HOSTILE) + 1), *(key for table, key in accepted if table == VISITS.table)}
    assert all(visits[number]["user_id"] == number for number in range(1, len(HOSTILE) + 1)), "an address is mistaken"


def test_a_table_whose_changes_are_captured_cannot_be_emptied_unseen(lake: Lake) -> None:
    with pytest.raises(errors.RaiseException, match=r"TRUNCATE of app\.user_profile would not be captured"):
        lake.database.execute("TRUNCATE app.user_profile")


def test_impossible_times_among_more_rows_than_the_client_holds(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "FEW", 2)
    for number, moment in enumerate(TIMES, 1):
        lake.database.execute("INSERT INTO app.gym_visits VALUES (%s, 'x', 7, %s)", number, moment)
    lake.run()
    lake.database.execute("TRUNCATE app.gym_visits")
    lake.run()
    assert len(lake.versions()) == 2 * len(TIMES) and not lake.living()
    for silver in SILVER:
        lake.pipeline.run(silver)


KEYS = range(1, 6)
ACTIONS: dict[str, Callable[[psycopg.Connection[Any], int, int], Any]] = {
    "take a version": lambda at, key, step: at.execute("SELECT pg_current_xact_id()"),
    "insert": lambda at, key, step: at.execute(f"{INSERT} ON CONFLICT DO NOTHING", (key, f"step {step}")),
    "update": lambda at, key, step: at.execute(LEAVE, (key,)),
    "delete": lambda at, key, step: at.execute(DELETE, (key,)),
    "move": lambda at, key, step: at.execute(
        "UPDATE app.gym_visits SET visit_id = %s WHERE visit_id = %s", (key % len(KEYS) + 1, key)
    ),
    "savepoint": lambda at, key, step: at.execute("SAVEPOINT part"),
    "half undone": lambda at, key, step: at.execute("ROLLBACK TO SAVEPOINT part"),
    "commit": lambda at, key, step: at.commit(),
    "rollback": lambda at, key, step: at.rollback(),
}
MOSTLY = ["insert", "update", "delete", "commit"]
STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([*ACTIONS, *MOSTLY]), st.sampled_from(KEYS)), min_size=6, max_size=25
)


def do(connection: psycopg.Connection[Any], action: str, key: int, step: int) -> None:
    """What cannot be done (a lock, a key that is there) ends the transaction."""
    try:
        ACTIONS[action](connection, key, step)
    except errors.Error:
        connection.rollback()


@settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == FEW_EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.generate],  # to look for a simpler example would take many minutes
    suppress_health_check=list(HealthCheck),
)
@given(stretches=st.lists(STEPS, min_size=3, max_size=4))
def test_any_interleaving_of_transactions_and_runs_ends_with_the_table(
    lake: Lake, stretches: list[list[tuple[int, str, int]]]
) -> None:
    levels = (psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ, None)
    connections = [lake.database.connect(options="-c lock_timeout=20ms") for _ in levels]
    try:
        for connection, level in zip(connections, levels, strict=True):
            connection.isolation_level = level
        for stretch in stretches:
            for step, (number, action, key) in enumerate(stretch):
                do(connections[number], action, key, step)
            lake.extract()
        connections[0].commit()
        connections[1].rollback()
    finally:
        for connection in connections:
            connection.close()
    lake.extract()
    assert lake.living() == lake.database.rows(VISITS)
    assert lake.rows_out(lake.extract()) == 0


def test_runs_beside_writers_that_never_rest_lose_nothing(lake: Lake) -> None:
    rest = threading.Event()

    def write(seed: int, pace_seconds: float, actions: list[str]) -> None:
        dice = random.Random(seed)
        with lake.database.connect(options="-c lock_timeout=20ms") as connection:
            step = 0
            while not rest.is_set():
                step += 1
                key = dice.randrange(1, 5_000)  # seldom one twice: what was lost would be read then
                do(connection, dice.choice(actions), key, step)
                time.sleep(pace_seconds)

    at_once = [(seed, 0.002, [*ACTIONS, *MOSTLY]) for seed in range(2)]
    slowly = [(seed, 0.2, ["insert", "insert", "commit"]) for seed in range(2, 5)]  # in flight for longer than a run
    writers = [threading.Thread(target=write, args=of) for of in at_once + slowly]
    for writer in writers:
        writer.start()
    try:
        for _ in range(4):
            lake.run()
    finally:
        rest.set()
        for writer in writers:
            writer.join()
    outcome = lake.extract()
    assert lake.living() == lake.database.rows(VISITS)
    assert 0 < lake.rows_out(outcome) < len(lake.versions())
