CREATE TABLE IF NOT EXISTS ${table} (
  run_id     STRING NOT NULL    COMMENT 'The run that looked',
  looked_at  TIMESTAMP NOT NULL COMMENT 'When',
  gold_table STRING NOT NULL    COMMENT 'Table of gold',
  changed_on DATE NOT NULL      COMMENT 'UTC day of the change',
  row_day    DATE NOT NULL      COMMENT 'UTC day that the changed rows tell of, before changed_on',
  inserted   BIGINT NOT NULL    COMMENT 'Rows that came',
  updated    BIGINT NOT NULL    COMMENT 'Changes of rows',
  deleted    BIGINT NOT NULL    COMMENT 'Rows that went'
)
USING DELTA
CLUSTER BY (changed_on)
${location}
COMMENT 'Rows of gold about a day that changed after this day was over: what late data did. A run takes back what one that died has written.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.appendOnly' = 'false'
)
