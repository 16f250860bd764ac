"""What differs between Azure SQL and PostgreSQL when rows are read by their version.

Both give every row a version that rises with each write, and both let transactions commit in another order than they
began. A reader that remembers the highest version it saw would miss rows whose transaction commits late; one that
stops below the oldest transaction still in flight does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class UnknownDialect(Exception):
    """A JDBC URL of a database that no dialect describes."""


@dataclass(frozen=True)
class Dialect:
    """`driver`: JDBC class. `limit`: expression of the first row version that may still be in flight, a BIGINT.
    `row_version`: expression of a row's version as a BIGINT."""

    driver: str
    limit: str
    row_version: str

    def state(self, table: str, since: int) -> str:
        """One row: row_limit, fresh (rows with since <= version < row_limit), settled (all rows below row_limit)."""
        below = f"{self.row_version} < bounds.row_limit"
        return (
            f"SELECT MAX(bounds.row_limit) AS row_limit, "
            f"COUNT(CASE WHEN {self.row_version} >= {since:d} AND {below} THEN 1 END) AS fresh, "
            f"COUNT(CASE WHEN {below} THEN 1 END) AS settled "
            f"FROM (SELECT {self.limit} AS row_limit) bounds LEFT JOIN {table} ON 1 = 1"
        )

    def versions(self, table: str, columns: Sequence[str], since: int, until: int) -> str:
        """The rows with since <= version < until."""
        return (
            f"SELECT {', '.join(columns)}, {self.row_version} AS row_version FROM {table} "
            f"WHERE {self.row_version} >= {since:d} AND {self.row_version} < {until:d}"
        )

    def keys(self, table: str, key: str) -> str:
        """The keys of all rows that are there."""
        return f"SELECT {key} FROM {table}"


DIALECTS = {
    "postgresql": Dialect(
        driver="org.postgresql.Driver",
        limit="pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
        row_version="row_version",
    ),
    "sqlserver": Dialect(
        driver="com.microsoft.sqlserver.jdbc.SQLServerDriver",
        limit="CAST(MIN_ACTIVE_ROWVERSION() AS BIGINT)",
        row_version="CAST(row_version AS BIGINT)",
    ),
}


def of(jdbc_url: str) -> Dialect:
    """The dialect of a JDBC URL; raises UnknownDialect."""
    name = jdbc_url.removeprefix("jdbc:").split(":")[0]
    if not jdbc_url.startswith("jdbc:") or name not in DIALECTS:
        raise UnknownDialect(f"No dialect for a URL of {name!r}; known are {', '.join(DIALECTS)}.")
    return DIALECTS[name]
