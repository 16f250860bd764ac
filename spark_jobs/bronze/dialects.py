"""The SQL that differs between PostgreSQL (one machine) and SQL Server (Azure): row versions, and what is in flight.

A row's version rises with every change of it. Versions are given out before their transactions commit, so those still
in flight have to be waited for: `in_flight` asks for the smallest that may yet appear. All smaller ones are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """`in_flight` returns one BIGINT `in_flight`; `version` is the row version as BIGINT; `bound` a version as it is
    stored, for an index to be used; `moment` a time, what lies outside of the years 1 to 9999 at their edge (the upper
    is outside itself); `driver` the JDBC class."""

    name: str
    driver: str
    in_flight: str
    version: str
    bound: str
    moment: str

    def versions(self, table: str, columns: Mapping[str, str], low: int, high: int) -> str:
        """Rows with low <= version < high: `columns` (with their types in Spark), and their version as BIGINT
        `row_version`."""
        selected = [self.moment.format(name) if kind == "TIMESTAMP" else name for name, kind in columns.items()]
        where = f"row_version >= {self.bound.format(low)} AND row_version < {self.bound.format(high)}"
        return f"SELECT {', '.join(selected)}, {self.version} AS row_version FROM {table} WHERE {where}"  # noqa: S608

    def count(self, table: str, high: int) -> str:
        """How many rows have a version below `high`."""
        return f"SELECT COUNT(*) AS present FROM {table} WHERE row_version < {self.bound.format(high)}"  # noqa: S608

    def keys(self, table: str, key: str) -> str:
        """The keys of all rows."""
        return f"SELECT {key} FROM {table}"  # noqa: S608


POSTGRESQL = Dialect(
    name="postgresql",
    driver="org.postgresql.Driver",
    in_flight="SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS in_flight",
    version="row_version",
    bound="{}",
    # infinity, and years that Spark's clock does not reach, would fail the job that reads them
    moment=(
        "CASE WHEN {0} >= timestamptz '10000-01-01 00:00:00Z' THEN timestamptz '10000-01-01 00:00:00Z'"
        " WHEN {0} < timestamptz '0001-01-01 00:00:00Z' THEN timestamptz '0001-01-01 00:00:00Z' ELSE {0} END AS {0}"
    ),
)
SQL_SERVER = Dialect(
    name="sqlserver",
    driver="com.microsoft.sqlserver.jdbc.SQLServerDriver",
    in_flight="SELECT CONVERT(bigint, MIN_ACTIVE_ROWVERSION()) AS in_flight",
    version="CONVERT(bigint, row_version)",
    bound="CONVERT(binary(8), CONVERT(bigint, {}))",
    moment="{}",  # DATETIME2 ends with the year 9999
)


def dialect_of(jdbc_url: str) -> Dialect:
    """The dialect of `jdbc:<name>:...`; raises ValueError for one that is not spoken here."""
    for dialect in (POSTGRESQL, SQL_SERVER):
        if jdbc_url.startswith(f"jdbc:{dialect.name}:"):
            return dialect
    raise ValueError(f"No dialect for {jdbc_url.split(';')[0]!r}: jdbc:postgresql: and jdbc:sqlserver: are spoken.")
