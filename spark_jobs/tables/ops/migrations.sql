CREATE TABLE IF NOT EXISTS ${table} (
  number     INT NOT NULL       COMMENT 'Number of the migration',
  name       STRING NOT NULL    COMMENT 'Its file in spark_jobs/migrations, without .sql',
  checksum   STRING NOT NULL    COMMENT 'SHA-256 of the file as it was applied',
  applied_at TIMESTAMP NOT NULL COMMENT 'When',
  run_id     STRING NOT NULL    COMMENT 'The run that applied it'
)
USING DELTA
${location}
COMMENT 'One migration that has been applied. Append-only.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.appendOnly' = 'true'
)
