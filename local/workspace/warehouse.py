"""The warehouse: SQL on the shared Spark Connect server, with every declared table that exists known by its name."""

from __future__ import annotations

import base64
import json
import logging
import math
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from local.home import Home
from local.workspace.compute import session_url

if TYPE_CHECKING:
    import pyarrow
    from pyspark.sql.connect.session import SparkSession
    from pyspark.sql.types import DataType, StructType

log = logging.getLogger("workspace.warehouse")

CATALOG = "spark_catalog"
MAX_RESULT_BYTES = 25 * 1024 * 1024  # Databricks' limit for inline results


class SparkUnavailable(Exception):
    """The Spark Connect server does not answer."""


class ResultTooLarge(Exception):
    """An inline result may have 25 MiB."""


@dataclass(frozen=True)
class Parameter:
    """A named parameter; `value` is text (None: NULL) that Spark casts to `type`."""

    name: str
    value: str | None
    type: str = "STRING"

    NAME = re.compile(r"^[A-Za-z_]\w*$")
    TYPE = re.compile(r"^[A-Za-z_ ]+(\(\s*\d+\s*(,\s*\d+\s*)?\))?$")


@dataclass
class Table:
    """A result; every value is text as the Statement Execution API gives it, or None."""

    schema: StructType
    rows: list[list[str | None]] = field(default_factory=list)
    truncated: bool = False
    size: int = 0  # bytes, about, that the cells take as JSON


class Warehouse:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.lock = threading.Lock()
        self._keeper: SparkSession | None = None  # lives as long as the Spark server; tells when that was restarted
        self._registered: set[str] = set()

    def session(self) -> SparkSession:
        """A session of its own for one user of the warehouse; all tables are registered. Raises SparkUnavailable."""
        with self.lock:
            self._keep_up()
            self._register_new_tables()
        return self._new_session()

    def _new_session(self) -> SparkSession:
        from pyspark.logger import PySparkLogger
        from pyspark.sql.connect.session import SparkSession

        PySparkLogger.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)  # a wrong query is not our error
        session = SparkSession.builder.remote(session_url(self.home, str(uuid.uuid4()))).create()
        session.client.set_retry_policies([])  # an error is an answer here; the default tries for ten minutes
        # It needs threads that all sessions of a process share, and that one joins, holding their lock, when it is
        # collected: by a thread that is just being started that is forever, and no statement comes through any more.
        session.client.disable_reattachable_execute()
        # Statements of people may be long, and compiled code looks whether it was cancelled where other code does not.
        session.conf.set("spark.sql.codegen.wholeStage", "true")
        session.conf.set("spark.sql.codegen.factoryMode", "FALLBACK")
        return session

    def _keep_up(self) -> None:
        try:
            socket.create_connection(("127.0.0.1", self.home.port("spark")), timeout=2).close()
        except OSError as error:
            self._keeper = None
            raise SparkUnavailable(f"The Spark server does not answer ({error}).") from None
        if self._keeper is not None:
            try:
                self._keeper.conf.get("spark.sql.session.timeZone")
            except Exception:  # the server was restarted: its catalog is empty again
                log.info("Spark was restarted; connecting anew.")
                close(self._keeper)
                self._keeper = None
        if self._keeper is None:
            self._registered = set()
            self._keeper = self._new_session()

    def _register_new_tables(self) -> None:
        from spark_jobs import declarations
        from spark_jobs.platform import Platform

        keeper = self._keeper
        assert keeper is not None
        platform = Platform(storage_root=str(self.home.lake))
        there = [name for name in declarations.declared() if self._exists(name) and name not in self._registered]
        known = self._registered | set(there)
        views = {view: needs for view, needs in _views().items() if view not in known and needs <= known}
        for name in [*there, *views]:
            try:
                declarations.register(keeper, platform, CATALOG, name)  # type: ignore[arg-type]
                self._registered.add(name)
            except Exception as error:
                # a declaration that does not fit the table's files is for the jobs to report
                log.info("%s is not registered: %s", name, str(error).partition("\n")[0])

    def _exists(self, table: str) -> bool:
        return (self.home.lake / table.replace(".", "/") / "_delta_log").is_dir()


def _views() -> dict[str, set[str]]:
    """Every declared view, with the tables it reads."""
    from spark_jobs import declarations

    files = sorted(declarations.FOLDER.glob("*/*.view.sql"))
    return {
        f"{file.parent.name}.{file.name.removesuffix('.view.sql')}": set(
            re.findall(r"\$\{catalog\}\.(\w+\.\w+)", file.read_text())
        )
        for file in files
    }


def close(session: SparkSession) -> None:
    """Ends the session on both sides."""
    for end in (session.client.release_session, session.client.close):
        try:
            end()
        except Exception as error:
            log.debug("A session was not closed: %s", error)


def query(
    session: SparkSession,
    statement: str,
    parameters: list[Parameter] | None = None,
    row_limit: int | None = None,
    byte_limit: int | None = None,
) -> Table:
    """Runs one statement. Raises ResultTooLarge, or what Spark raises."""
    frame = session.sql(bound(session, statement, parameters) if parameters else statement)
    if row_limit is not None:
        frame = frame.limit(row_limit + 1)
    table = Table(frame.schema)
    for rows in _batches(session, frame):
        for row in rows:
            if row_limit is not None and len(table.rows) >= row_limit:
                table.truncated = True
                return table
            cells = [cell(value, column.dataType) for value, column in zip(row, table.schema, strict=True)]
            size = table.size + sum(len("null,") if text is None else len(text) + len('"",') for text in cells)
            if byte_limit is not None and size > byte_limit:
                table.truncated = True
                return table
            if size > MAX_RESULT_BYTES:
                raise ResultTooLarge("The result is larger than 25 MiB; ask for fewer rows or columns.")
            table.rows.append(cells)
            table.size = size
    return table


def _batches(session: SparkSession, frame: Any) -> Iterator[list[tuple[Any, ...]]]:
    """The rows as they arrive, so that a result that is too large is given up early."""
    import pyarrow

    for part in session.client.to_table_as_iterator(frame._plan.to_proto(session.client), {}):
        if isinstance(part, pyarrow.Table):
            columns = [python_values(column) for column in part.columns]
            yield list(zip(*columns, strict=True))


def python_values(column: pyarrow.ChunkedArray) -> list[Any]:
    """The values of a column, dates as days and timestamps as microseconds since 1970.

    Python's own know the years 1 to 9999 only, Spark's go far beyond.
    """
    return column.cast(_counted(column.type)).to_pylist()


def _counted(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type with numbers in place of its dates and timestamps."""
    import pyarrow
    from pyarrow import types

    if types.is_timestamp(kind):
        return pyarrow.int64()
    if types.is_date32(kind):
        return pyarrow.int32()
    if types.is_list(kind):
        return pyarrow.list_(kind.value_field.with_type(_counted(kind.value_type)))
    if types.is_map(kind):
        key, item = kind.key_field, kind.item_field
        return pyarrow.map_(key.with_type(_counted(key.type)), item.with_type(_counted(item.type)))
    if types.is_struct(kind):
        return pyarrow.struct([one.with_type(_counted(one.type)) for one in kind])
    return kind


CYCLE_DAYS = 146_097  # the calendar repeats every 400 years
DAY_MICROSECONDS = 86_400_000_000


def day_text(days: int) -> str:
    """A day, counted from 1970-01-01, in ISO 8601; as Java spells years that have not four digits."""
    cycles, rest = divmod(days, CYCLE_DAYS)
    day = date(1970, 1, 1) + timedelta(rest)
    year = day.year + 400 * cycles
    sign = "-" if year < 0 else "+" if year > 9999 else ""
    return f"{sign}{abs(year):04d}-{day.month:02d}-{day.day:02d}"


def time_text(microseconds: int) -> str:
    """A time, counted from 1970, in ISO 8601 with milliseconds, or with microseconds where it has them."""
    days, rest = divmod(microseconds, DAY_MICROSECONDS)
    seconds, fraction = divmod(rest, 1_000_000)
    spelled = f"{fraction:06d}" if fraction % 1000 else f"{fraction // 1000:03d}"
    return f"{day_text(days)}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{spelled}"


def as_sql_text(text: str) -> str:
    """`text` as a SQL expression of hexadecimal digits only: nothing in it can be taken for SQL."""
    return f"decode(X'{text.encode().hex()}', 'utf-8')"


def bound(session: SparkSession, statement: str, parameters: list[Parameter]) -> str:
    """The statement that runs `statement` with its named parameters bound.

    Not `session.sql(statement, args=...)`: with Delta's SQL extension Spark 4.1 loses the arguments
    (UNBOUND_SQL_PARAMETER; Delta 4.4's parser does not pass them on). Session variables do what arguments would.
    """
    session.conf.set("spark.sql.legacy.parameterSubstitution.constantsOnly", "true")  # else lost here as well
    using = []
    for number, parameter in enumerate(parameters):
        if not Parameter.NAME.match(parameter.name) or not Parameter.TYPE.match(parameter.type):
            raise ValueError(f"Parameter {parameter.name!r} of type {parameter.type!r} cannot be bound.")
        value = "NULL" if parameter.value is None else as_sql_text(parameter.value)
        variable = f"parameter_{number}"
        session.sql(
            f"DECLARE OR REPLACE VARIABLE {variable} {parameter.type} DEFAULT CAST({value} AS {parameter.type})"
        ).collect()
        using.append(f"{variable} AS `{parameter.name}`")
    return f"EXECUTE IMMEDIATE {as_sql_text(statement)} USING {', '.join(using)}"


def cell(value: Any, kind: DataType) -> str | None:
    """A value as text, as JSON_ARRAY results have it; arrays, maps and structs as JSON."""
    if value is None:
        return None
    if kind.typeName() in ("array", "map", "struct"):
        return json.dumps(_plain(value, kind), separators=(",", ":"), ensure_ascii=False)
    plain = _plain(value, kind)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return plain if isinstance(plain, str) else repr(plain)


def _plain(value: Any, kind: Any) -> Any:
    name = kind.typeName()
    if value is None:
        return None
    if name == "array":
        return [_plain(one, kind.elementType) for one in value]
    if name == "map":
        pairs = value.items() if isinstance(value, dict) else value
        return {str(cell(key, kind.keyType)): _plain(one, kind.valueType) for key, one in pairs}
    if name == "struct":
        return {one.name: _plain(value[one.name], one.dataType) for one in kind.fields}
    if name == "date":
        return day_text(value)
    if name in ("timestamp", "timestamp_ntz"):
        return time_text(value) + ("Z" if name == "timestamp" else "")
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        return str(value)
    return value
