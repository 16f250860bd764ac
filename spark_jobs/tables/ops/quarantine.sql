CREATE TABLE IF NOT EXISTS ${table} (
  source        STRING NOT NULL    COMMENT 'kafka, app.registered_users or app.gym_visits',
  topic         STRING             COMMENT 'Kafka topic',
  partition     INT                COMMENT 'Kafka partition',
  offset        BIGINT             COMMENT 'Kafka offset',
  row_version   BIGINT             COMMENT 'Row version in the SQL source',
  reason        STRING NOT NULL    COMMENT 'Why, from the closed list in spark_jobs/quarantine.py',
  detail        STRING             COMMENT 'Which field, and what was wrong with it',
  key           BINARY             COMMENT 'Record key, or the row''s primary key as text',
  value         BINARY             COMMENT 'Record value, or the row as JSON',
  first_seen_at TIMESTAMP NOT NULL COMMENT 'When it was refused'
)
USING DELTA
CLUSTER BY (source, topic, offset)
${location}
COMMENT 'A record that was refused, once. Key: source, topic, partition, offset (Kafka) or source, key, row_version (SQL).'
TBLPROPERTIES (
  'delta.checkpointInterval' = '100',
  'delta.enableChangeDataFeed' = 'true'
)
