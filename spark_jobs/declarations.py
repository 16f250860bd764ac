"""The tables as they are declared: one DDL file each in `tables/<schema>/<table>.sql` (a view: `<view>.view.sql`).

A process registers the tables that it uses at its start. Locally the catalog lives in the memory of one JVM, so the
name of a table must be told anew to each; where the table exists, that writes nothing.
"""

from __future__ import annotations

import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import filterfalse
from pathlib import Path
from string import Template

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from spark_jobs import conflicts
from spark_jobs.platform import Platform
from spark_jobs.slices import literal

FOLDER = Path(__file__).parent / "tables"
PARALLEL = 4

# What the loser of two that create the same table at once is told; the table is there when it tries again.
LOST_THE_RACE = (
    "NON_EMPTY_LOCATION",
    "NONEMPTY_LOCATION",
    "ALREADY_EXISTS",
    "ProtocolChanged",
    "PROTOCOL_CHANGED",
    "MetadataChanged",
    "METADATA_CHANGED",
    "ConcurrentWrite",
    "CONCURRENT_WRITE",
    "ConcurrentTransaction",
    "CONCURRENT_TRANSACTION",
    "DELTA_TABLE_NOT_FOUND",
    "FileAlreadyExists",
)
ABANDONED_SECONDS = 60.0  # after which who was making a table is dead

NOT_THERE = ("DELTA_PATH_DOES_NOT_EXIST", "DELTA_MISSING_DELTA_TABLE", "PATH_NOT_FOUND", "DELTA_TABLE_NOT_FOUND")
COLUMN = re.compile(r"^  (\w+) +(.+?)( NOT NULL)? +COMMENT '", re.MULTILINE)
PROPERTY = re.compile(r"^  '([\w.]+)' = '((?:[^']|'')*)'", re.MULTILINE)

logger = logging.getLogger("fitness")


class WrongLocation(Exception):
    """A table of this name lies somewhere else: writing to it would hide the rows from everyone who looks at ours."""


def declared() -> list[str]:
    """Every declared table, as `schema.table`, without views."""
    files = FOLDER.glob("*/*.sql")
    return sorted(f"{file.parent.name}.{file.stem}" for file in files if not file.name.endswith(".view.sql"))


def statement(table: str, platform: Platform, catalog: str) -> str:
    """The DDL statement of one table or view, `schema.table`."""
    schema, name = table.split(".")
    text = (FOLDER / schema / f"{name}{'.view' if is_view(table) else ''}.sql").read_text()
    location = platform.location(table)
    return Template(text).substitute(
        table=f"{catalog}.{table}", catalog=catalog, location=f"LOCATION {literal(location)}" if location else ""
    )


def properties(table: str, platform: Platform, catalog: str) -> dict[str, str]:
    """The declared TBLPROPERTIES of a table."""
    return {name: text.replace("''", "'") for name, text in PROPERTY.findall(statement(table, platform, catalog))}


def columns(table: str, platform: Platform, catalog: str) -> dict[str, str]:
    """The declared columns of a table: name -> type, as Spark writes types (`simpleString`)."""
    body = statement(table, platform, catalog).split("(\n", 1)[1].split("\n)", 1)[0]
    return {name: re.sub(r"\s", "", kind).lower() for name, kind, _ in COLUMN.findall(body)}


def register_as_it_is(spark: SparkSession, platform: Platform, catalog: str, table: str) -> None:
    """Make a table known as it lies there, whatever is declared."""
    location = literal(platform.location(table))
    spark.sql(f"CREATE TABLE IF NOT EXISTS {catalog}.{table} USING DELTA LOCATION {location}")


def register(spark: SparkSession, platform: Platform, catalog: str, *tables: str) -> None:
    """Make tables and views (`schema.table`) known to this session's catalog, creating those that do not exist.

    Raises WrongLocation when a name stands for a table that lies elsewhere.
    """
    known = _locations(spark, platform, catalog, tables)
    if missing := [table for table in tables if table not in known]:
        for schema in sorted({table.split(".")[0] for table in missing}):
            create_schema(spark, platform, catalog, schema)
        # each reads its log: side by side, since somebody may wait for it
        with ThreadPoolExecutor(PARALLEL, "register") as creators:
            list(creators.map(lambda table: _create(spark, platform, catalog, table), filterfalse(is_view, missing)))
        for view in filter(is_view, missing):
            _create(spark, platform, catalog, view)
        known |= _locations(spark, platform, catalog, tables)
    for table, found in known.items():
        wanted = platform.location(table)
        if wanted and _path(found) != _path(wanted):
            raise WrongLocation(f"{catalog}.{table} lies at {found}, not at {wanted}.")


def is_view(table: str) -> bool:
    schema, name = table.split(".")
    return (FOLDER / schema / f"{name}.view.sql").exists()


def create_schema(spark: SparkSession, platform: Platform, catalog: str, schema: str) -> None:
    location = platform.location(schema)
    spark.sql(
        f"CREATE SCHEMA IF NOT EXISTS {catalog}.{schema}" + (f" LOCATION {literal(location)}" if location else "")
    )


def _create(spark: SparkSession, platform: Platform, catalog: str, table: str) -> None:
    """A table that lies there with the declared columns is taken as it is: to compare all else with its declaration,
    as CREATE TABLE does, takes ten times as long, and other properties (DAG migrations sets them) harm no row."""

    def create() -> None:
        found = None if is_view(table) else _shape(spark, platform, table)
        if found is not None and found == columns(table, platform, catalog):
            register_as_it_is(spark, platform, catalog, table)
            return
        if found is None:
            _remove_abandoned(platform.location(table))
        spark.sql(statement(table, platform, catalog))

    conflicts.retried(create, LOST_THE_RACE)


def _remove_abandoned(location: str | None) -> None:
    """Remove what lies at a table's place from one who died while making it, before the first commit (a kill, a full
    disk): Delta makes no table where anything lies. Only drafts of that commit, on a local disk; all else stays."""
    if location is None or not location.startswith(("file:", "/")):
        return
    log = Path(_path(location), "_delta_log")
    try:
        left = [log, *log.rglob("*")] if log.is_dir() else []
        if not all(path.is_dir() or (path.name.startswith(".") and path.suffix == ".tmp") for path in left):
            return
        if not left or max(path.stat().st_mtime for path in left) > time.time() - ABANDONED_SECONDS:
            return
        for path in sorted(left, reverse=True):  # what is in a folder before the folder itself
            path.rmdir() if path.is_dir() else path.unlink()
    except OSError:  # another one removes it, or has begun to make the table, which Delta will say
        logger.info("%s is being made or removed by another process.", log, exc_info=True)
    else:
        logger.warning("%s was left by somebody who died while making the table; removed.", log)


def _shape(spark: SparkSession, platform: Platform, table: str) -> dict[str, str] | None:
    """The columns (see `columns`) of the table that lies at its place; None without one, or where the catalog decides
    on the place."""
    location = platform.location(table)
    if location is None:
        return None
    try:
        schema = spark.read.format("delta").load(location).schema
    except PySparkException as error:
        if conflicts.is_one_of(error, NOT_THERE):
            return None
        raise
    return {field.name: field.dataType.simpleString() for field in schema}


def _locations(spark: SparkSession, platform: Platform, catalog: str, tables: tuple[str, ...]) -> dict[str, str]:
    """Where those tables lie that this session's catalog knows; one question for each schema, not for each table."""
    if not platform.storage_root:
        return {}

    def look(schema: str) -> dict[str, str]:
        names = [table.split(".")[1] for table in tables if table.startswith(f"{schema}.")]
        try:
            rows = spark.sql(f"SHOW TABLE EXTENDED IN {catalog}.{schema} LIKE '{'|'.join(names)}'").collect()
        except PySparkException as error:
            if "SCHEMA_NOT_FOUND" in str(error):
                return {}
            raise
        found = {}
        for row in rows:
            lines = dict(line.split(": ", 1) for line in row.information.splitlines() if ": " in line)
            if "Location" in lines and row.tableName in names:
                found[f"{schema}.{row.tableName}"] = lines["Location"]
        return found

    schemas = {table.split(".")[0] for table in tables}
    with ThreadPoolExecutor(PARALLEL, "look") as lookers:
        return {table: location for found in lookers.map(look, schemas) for table, location in found.items()}


def _path(location: str) -> str:
    """A location without what differs between two ways of writing it."""
    scheme, colon, rest = location.partition(":")
    if colon and scheme == "file":
        return "/" + rest.strip("/")
    return location.rstrip("/") if colon else "/" + location.strip("/")
