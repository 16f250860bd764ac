CREATE TABLE IF NOT EXISTS ${table} (
  rebuild        STRING NOT NULL    COMMENT 'The rebuild that found it',
  table_name     STRING NOT NULL    COMMENT 'Table that the heart-rate stream writes',
  device_id      BIGINT NOT NULL    COMMENT 'Device',
  at             TIMESTAMP NOT NULL COMMENT 'read_at or minute',
  bpm            DOUBLE             COMMENT 'Of silver.heart_rate, what the reading should be; NULL: nobody said it',
  source_version BIGINT NOT NULL    COMMENT 'Version of the table beneath that was looked at'
)
USING DELTA
CLUSTER BY (table_name, device_id)
${location}
COMMENT 'A key whose row a rebuild will replace while the stream is stopped. Key: table_name, device_id, at.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true'
)
