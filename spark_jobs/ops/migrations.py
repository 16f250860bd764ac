"""`ops.migrations`: one row is a migration that has been applied, once.

`spark_jobs/migrations/<number>_<what>.sql` bring tables that exist to what their declarations have become. Those not
applied yet are, in the order of their numbers; a table that does not exist is left to its declaration. Then every
table gets the properties that are declared, and is compared with its declaration: the job fails if columns or
constraints differ, since a declaration was changed without a migration.
A run that dies is completed by the next: a column that is there already is no error.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from spark_jobs import job
from spark_jobs.declarations import NOT_THERE, columns, create_schema, declared, properties, register_as_it_is
from spark_jobs.slices import literal

NAME = "ops.migrations"
FOLDER = Path(__file__).resolve().parents[1] / "migrations"
CONSTRAINT = "delta.constraints."
FILE = re.compile(r"(\d{4})_(\w+)")
ALREADY_DONE = ("FIELD_ALREADY_EXISTS", "FIELDS_ALREADY_EXISTS", "COLUMN_ALREADY_EXISTS")
TABLE_NOT_FOUND = "TABLE_OR_VIEW_NOT_FOUND"

logger = logging.getLogger("fitness")


class MigrationChanged(Exception):
    """A migration is not what it was when it was applied, or its name or number is no good."""


class UndeclaredDifference(Exception):
    """A table is not as it is declared, and no migration makes it so."""


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, catalog: str) -> list[str]:
        text = Template(re.sub(r"^--.*$", "", self.text, flags=re.MULTILINE)).substitute(catalog=catalog)
        return [part.strip() for part in re.split(r";\s*(?:\n|$)", text) if part.strip()]


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """In order. Raises MigrationChanged when they are not numbered 1, 2, 3, ..."""
    found = []
    for number, file in enumerate(sorted(folder.glob("*.sql")), 1):
        named = FILE.fullmatch(file.stem)
        if not named or int(named[1]) != number:
            raise MigrationChanged(f"{file.name} should be called {number:04d}_<what>.sql.")
        found.append(Migration(number, file.stem, file.read_text()))
    return found


def apply(run: job.Job, folder: Path = FOLDER) -> None:
    names = [name for name in declared() if name != NAME]
    there = [name for name in names if _there(run, name)]
    done = {row["number"]: row["checksum"] for row in run.table(NAME).collect()}
    for migration in migrations(folder):
        if done.get(migration.number, migration.checksum) != migration.checksum:
            raise MigrationChanged(f"{migration.name} has been applied, and was changed since. Write a new one.")
        if migration.number in done:
            continue
        for text in migration.statements(run.catalog):
            _execute(run.spark, text)
        row = (migration.number, migration.name, migration.checksum, datetime.now(UTC), run.run_id)
        said = run.spark.createDataFrame([row], run.table(NAME).schema)
        said.writeTo(f"{run.catalog}.{NAME}").append()
        run.outcome.rows_out[NAME] = run.outcome.rows_out.get(NAME, 0) + 1
        logger.info("%s applied", migration.name)
    missing = {name: _missing_properties(run, name) for name in there}
    for name in there:
        _set_properties(run, name, missing[name])
    wrong = [line for name in there if (line := differences(run, name, missing[name]))]
    if wrong:
        raise UndeclaredDifference("; ".join(wrong) + ". Write a migration (docs/schema-changes.md).")


def differences(run: job.Job, name: str, missing: dict[str, str]) -> str:
    """In which columns and constraints a table and its declaration differ, as text; nothing when they do not.

    `missing`: declared properties, constraints among them, that it has not.
    """
    wanted = columns(name, run.platform, run.catalog)
    found = {field.name: field.dataType.simpleString() for field in run.table(name).schema}
    wrong = [f"{column} {wanted.get(column, 'is not declared')}, not {found.get(column, 'there')}"
             for column in sorted(wanted.keys() | found.keys()) if wanted.get(column) != found.get(column)]  # fmt: skip
    wrong += [f"no constraint {text}" for key, text in missing.items() if key.startswith(CONSTRAINT)]
    return f"{name}: {', '.join(wrong)}" if wrong else ""


def _missing_properties(run: job.Job, name: str) -> dict[str, str]:
    """Declared properties that the table has not, or not so."""
    detail = run.spark.sql(f"DESCRIBE DETAIL {run.catalog}.{name}").select("properties").head()
    found = dict(detail["properties"]) if detail else {}
    wanted = properties(name, run.platform, run.catalog)
    return {key: text for key, text in wanted.items() if found.get(key) != text}


def _set_properties(run: job.Job, name: str, missing: dict[str, str]) -> None:
    """As declared; constraints are not set, since rows that break them must be dealt with first."""
    chosen = {key: text for key, text in missing.items() if not key.startswith(CONSTRAINT)}
    if chosen:
        pairs = ", ".join(f"{literal(key)} = {literal(text)}" for key, text in chosen.items())
        run.spark.sql(f"ALTER TABLE {run.catalog}.{name} SET TBLPROPERTIES ({pairs})")
        logger.info("%s: %s", name, pairs)


def _there(run: job.Job, name: str) -> bool:
    """Make a table known as it lies there, whatever is declared; whether there is one."""
    location = run.platform.location(name)
    try:
        if location:
            create_schema(run.spark, run.platform, run.catalog, name.split(".")[0])
            run.spark.sql(f"DESCRIBE DETAIL delta.`{location}`").collect()
            register_as_it_is(run.spark, run.platform, run.catalog, name)
        return run.spark.catalog.tableExists(f"{run.catalog}.{name}")
    except PySparkException as error:
        if any(sign in str(error) for sign in (TABLE_NOT_FOUND, *NOT_THERE)):
            return False
        raise


def _execute(spark: SparkSession, text: str) -> None:
    try:
        spark.sql(text).collect()
    except PySparkException as error:
        if not any(sign in str(error) for sign in (*ALREADY_DONE, TABLE_NOT_FOUND, *NOT_THERE)):
            raise
        logger.info("nothing to do: %s", str(error).splitlines()[0])


def main(argv: list[str]) -> int:
    return job.run(NAME, argv, apply, [NAME])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
