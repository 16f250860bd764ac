"""Small files made into few larger ones (OPTIMIZE): a table that is written often is read slower with each file."""

from __future__ import annotations

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

# Files that OPTIMIZE has brought to this size are left alone, so its cost is bounded by what is new. In a file rows lie
# as the table is clustered, in small groups and pages with bounds of their own: who looks for few devices or minutes
# reads those (docs/decisions/0014).
SETTINGS = {
    "spark.databricks.io.skipping.mdc.sortWithinFiles": "true",
    "parquet.block.size": str(2 << 20),
    "parquet.page.row.count.limit": "1000",
    "spark.databricks.delta.optimize.minFileSize": str(16 << 20),
    "spark.databricks.delta.optimize.maxFileSize": str(32 << 20),
    "spark.databricks.delta.optimize.clustering.mergeStrategy.minCubeSize.threshold": str(64 << 20),
    "spark.databricks.delta.optimize.clustering.mergeStrategy.targetCubeSize.threshold": str(128 << 20),
}


def configure(spark: SparkSession) -> None:
    """Set what bounds the cost, where the platform lets a session say so (Databricks serverless decides by itself)."""
    for setting, value in SETTINGS.items():
        try:
            spark.conf.set(setting, value)
        except PySparkException as error:
            if "CONFIG_NOT_AVAILABLE" not in str(error):
                raise


def pack(spark: SparkSession, table: str, where: str = "") -> tuple[int, int]:
    """OPTIMIZE of a table (its full name), or of the partitions that `where` names; files removed and files added."""
    row = spark.sql(f"OPTIMIZE {table} {where}").select("metrics.numFilesRemoved", "metrics.numFilesAdded").head()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))
