"""Migrations are applied once, and a table that is not as declared is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.errors import PySparkException

from spark_jobs import job
from spark_jobs.ops import migrations
from tests.spark.pipeline import Pipeline

ADD = "ALTER TABLE ${catalog}.silver.users ADD COLUMNS (nickname STRING COMMENT 'As they like');\n"


def apply(pipeline: Pipeline, folder: Path) -> None:
    arguments = ["--catalog", "spark_catalog", "--storage-root", str(pipeline.lake)]
    job.run(migrations.NAME, arguments, lambda run: migrations.apply(run, folder), [migrations.NAME])


def test_a_migration_is_applied_once_and_what_none_explains_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    apply(pipeline, migrations.FOLDER)
    applied = [row["name"] for row in pipeline.rows("ops.migrations")]
    assert applied == [migration.name for migration in migrations.migrations()], "on new tables too, without effect"
    apply(pipeline, migrations.FOLDER)
    assert len(pipeline.rows("ops.migrations")) == len(applied)

    folder = tmp_path / "migrations"
    folder.mkdir()
    for migration in migrations.migrations():
        (folder / f"{migration.name}.sql").write_text(migration.text)
    new = folder / f"{len(applied) + 1:04d}_nickname.sql"
    new.write_text(ADD)
    with pytest.raises(migrations.UndeclaredDifference, match=r"silver\.users: nickname is not declared, not string"):
        apply(pipeline, folder)
    assert "nickname" in pipeline.spark.table("spark_catalog.silver.users").columns
    assert len(pipeline.rows("ops.migrations")) == len(applied) + 1

    new.write_text(ADD.replace("As", "as"))
    with pytest.raises(migrations.MigrationChanged, match="nickname"):
        apply(pipeline, folder)


def test_changed_properties_stop_no_job_and_are_set_by_the_migration(pipeline: Pipeline) -> None:
    spark, feed = pipeline.spark, "delta.enableChangeDataFeed"

    def properties() -> dict[str, str]:
        return dict(spark.sql("DESCRIBE DETAIL spark_catalog.silver.users").collect()[0]["properties"])

    spark.sql(f"ALTER TABLE spark_catalog.silver.users SET TBLPROPERTIES ('{feed}' = 'false')")
    spark.sql("DROP TABLE spark_catalog.silver.users")  # only its name, as a Spark that starts anew
    pipeline.run("silver.users")
    assert properties()[feed] == "false"
    apply(pipeline, migrations.FOLDER)
    assert properties()[feed] == "true"

    [constraint] = [name for name in properties() if name.startswith("delta.constraints.")][:1]
    spark.sql(f"ALTER TABLE spark_catalog.silver.users DROP CONSTRAINT {constraint.rpartition('.')[2]}")
    with pytest.raises(migrations.UndeclaredDifference, match=r"silver\.users: no constraint"):
        apply(pipeline, migrations.FOLDER)


def test_numbers_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "0002_second.sql").write_text("")
    with pytest.raises(migrations.MigrationChanged, match="0001_"):
        migrations.migrations(tmp_path)


def test_a_table_with_other_columns_than_declared_is_not_taken_as_it_lies(pipeline: Pipeline) -> None:
    pipeline.run("silver.users")
    assert pipeline.rows("silver.users") == []
    pipeline.spark.sql("ALTER TABLE spark_catalog.silver.users ADD COLUMNS (nickname STRING)")
    pipeline.spark.sql("DROP TABLE spark_catalog.silver.users")  # only its name
    with pytest.raises(PySparkException, match="DELTA_CREATE_TABLE_SCHEME_MISMATCH"):
        pipeline.run("silver.users")
