"""What the DAGs are made of. Never imports pyspark: what runs on Spark is in spark_jobs/."""
