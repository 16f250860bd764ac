CREATE TABLE IF NOT EXISTS ${table} (
  run_id     STRING NOT NULL    COMMENT 'The run that looked',
  looked_at  TIMESTAMP NOT NULL COMMENT 'When',
  topic      STRING NOT NULL    COMMENT 'Kafka topic',
  field      STRING NOT NULL    COMMENT 'Name of the field, at most 200 characters',
  records    BIGINT NOT NULL    COMMENT 'Accepted records with it that arrived since the run before',
  first_seen TIMESTAMP NOT NULL COMMENT 'Arrival of the first of these'
)
USING DELTA
CLUSTER BY (topic)
${location}
COMMENT 'Fields of accepted messages that no table has; their bytes are in bronze (docs/schema-changes.md). A run takes back what one that died has written.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.appendOnly' = 'false'
)
