CREATE TABLE IF NOT EXISTS ${table} (
  device_id BIGINT NOT NULL    COMMENT 'Device',
  minute    TIMESTAMP NOT NULL COMMENT 'Start of the minute',
  min_bpm   DOUBLE NOT NULL    COMMENT 'Lowest',
  avg_bpm   DOUBLE NOT NULL    COMMENT 'Mean',
  max_bpm   DOUBLE NOT NULL    COMMENT 'Highest',
  readings  BIGINT NOT NULL    COMMENT 'Accepted readings in the minute'
)
USING DELTA
CLUSTER BY (device_id, minute)
${location}
COMMENT 'A minute of one device. Key: device_id, minute.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.dataSkippingStatsColumns' = 'device_id,minute',
  'delta.checkpointInterval' = '100'
)
