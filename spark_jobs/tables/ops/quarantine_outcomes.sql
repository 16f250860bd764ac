CREATE TABLE IF NOT EXISTS ${table} (
  source      STRING NOT NULL    COMMENT 'As in ops.quarantine: kafka, app.registered_users or app.gym_visits',
  topic       STRING             COMMENT 'Kafka topic',
  partition   INT                COMMENT 'Kafka partition',
  offset      BIGINT             COMMENT 'Kafka offset',
  row_version BIGINT             COMMENT 'Row version in the SQL source',
  key         BINARY             COMMENT 'Record key, or the row''s primary key as text',
  outcome     STRING NOT NULL    COMMENT 'accepted (it is in silver now) or refused (again)',
  reason      STRING             COMMENT 'Of a record that was refused again: why, by the rules of that moment',
  detail      STRING             COMMENT 'Of a record that was refused again: which field',
  decided_at  TIMESTAMP NOT NULL COMMENT 'When it was looked at again',
  run_id      STRING NOT NULL    COMMENT 'The replay that did it'
)
USING DELTA
CLUSTER BY (source, topic, offset)
${location}
COMMENT 'What became of a quarantined record when it was replayed. Several rows a record; the latest counts (ops.quarantine_status).'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.known_outcome' = 'outcome IN (''accepted'', ''refused'')'
)
