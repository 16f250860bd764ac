CREATE TABLE IF NOT EXISTS ${table} (
  run_id         STRING NOT NULL    COMMENT 'The run that looked',
  looked_at      TIMESTAMP NOT NULL COMMENT 'When',
  source         STRING NOT NULL    COMMENT 'Topic or SQL table',
  arrival_day    DATE NOT NULL      COMMENT 'UTC day on which the records arrived',
  event_day      DATE NOT NULL      COMMENT 'UTC day of what they tell',
  records        BIGINT NOT NULL    COMMENT 'Accepted records, repeated ones included, that arrived since the run before',
  min_seconds    DOUBLE NOT NULL    COMMENT 'Least seconds from event to arrival; negative: a clock is ahead',
  median_seconds DOUBLE NOT NULL    COMMENT 'Half of them took no longer',
  p95_seconds    DOUBLE NOT NULL    COMMENT '95 % of them took no longer',
  max_seconds    DOUBLE NOT NULL    COMMENT 'Most seconds'
)
USING DELTA
CLUSTER BY (arrival_day)
${location}
COMMENT 'How late records arrived, by source and days; of one pair of days a row a run. A run takes back what one that died has written.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.appendOnly' = 'false'
)
