CREATE TABLE IF NOT EXISTS ${table} (
  device_id BIGINT NOT NULL    COMMENT 'Device',
  read_at   TIMESTAMP NOT NULL COMMENT 'When it was read',
  bpm       DOUBLE NOT NULL    COMMENT 'Beats a minute'
)
USING DELTA
CLUSTER BY (device_id, read_at)
${location}
COMMENT 'An accepted reading. Key: device_id, read_at.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.dataSkippingStatsColumns' = 'device_id,read_at',
  'delta.checkpointInterval' = '100',
  'delta.constraints.plausible_bpm' = 'bpm > 20 AND bpm <= 250'
)
