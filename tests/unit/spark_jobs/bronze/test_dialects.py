"""Both dialects' SQL, parsed as the database would parse it."""

from __future__ import annotations

import pytest
import sqlglot

from spark_jobs.bronze.dialects import POSTGRESQL, SQL_SERVER, Dialect, dialect_of

GRAMMARS = [pytest.param(POSTGRESQL, "postgres", id="postgresql"), pytest.param(SQL_SERVER, "tsql", id="sqlserver")]
COLUMNS = {"visit_id": "BIGINT", "login_at": "TIMESTAMP"}


@pytest.mark.parametrize(("dialect", "grammar"), GRAMMARS)
def test_every_question_is_one_statement_of_the_database(dialect: Dialect, grammar: str) -> None:
    for query in (
        dialect.in_flight,
        dialect.versions("app.gym_visits", COLUMNS, 5, 9),
        dialect.count("app.gym_visits", 9),
        dialect.keys("app.gym_visits", "visit_id"),
    ):
        assert len(sqlglot.parse(query, dialect=grammar)) == 1


@pytest.mark.parametrize(("dialect", "grammar"), GRAMMARS)
def test_versions_are_read_from_the_last_limit_on_and_below_what_is_in_flight(dialect: Dialect, grammar: str) -> None:
    where = sqlglot.parse_one(dialect.versions("app.gym_visits", COLUMNS, 5, 9), dialect=grammar).find(
        sqlglot.exp.Where
    )
    assert where is not None
    assert "5" in where.this.this.sql() and isinstance(where.this.this, sqlglot.exp.GTE)
    assert "9" in where.this.expression.sql() and isinstance(where.this.expression, sqlglot.exp.LT)


def test_postgresql_asks_for_the_oldest_transaction_in_flight() -> None:
    assert POSTGRESQL.versions("app.t", {"id": "BIGINT"}, 0, 7) == (
        "SELECT id, row_version AS row_version FROM app.t WHERE row_version >= 0 AND row_version < 7"
    )
    assert "pg_snapshot_xmin(pg_current_snapshot())" in POSTGRESQL.in_flight


def test_sql_server_compares_versions_as_they_are_stored_so_that_their_index_is_used() -> None:
    assert SQL_SERVER.versions("app.t", {"id": "BIGINT"}, 0, 7) == (
        "SELECT id, CONVERT(bigint, row_version) AS row_version FROM app.t"
        " WHERE row_version >= CONVERT(binary(8), CONVERT(bigint, 0))"
        " AND row_version < CONVERT(binary(8), CONVERT(bigint, 7))"
    )
    assert "MIN_ACTIVE_ROWVERSION()" in SQL_SERVER.in_flight


@pytest.mark.parametrize(
    ("url", "dialect"),
    [
        pytest.param("jdbc:postgresql://127.0.0.1:5432/fitness", POSTGRESQL, id="postgresql"),
        pytest.param("jdbc:sqlserver://x.database.example:1433;databaseName=fitness", SQL_SERVER, id="sqlserver"),
    ],
)
def test_the_url_says_the_dialect(url: str, dialect: Dialect) -> None:
    assert dialect_of(url) is dialect


def test_another_database_is_refused_without_showing_its_parameters() -> None:
    with pytest.raises(ValueError, match="jdbc:oracle:thin") as raised:
        dialect_of("jdbc:oracle:thin:@x;password=hunter2")
    assert "hunter2" not in str(raised.value)
