CREATE TABLE IF NOT EXISTS ${table} (
  checked_at TIMESTAMP NOT NULL COMMENT 'When',
  run_id     STRING NOT NULL    COMMENT 'The run that compared',
  what       STRING NOT NULL    COMMENT 'Name of the comparison',
  scope      STRING             COMMENT 'Table, topic or key range compared',
  expected   BIGINT             COMMENT 'Rows or sum expected',
  found      BIGINT             COMMENT 'Rows or sum found',
  missing    BIGINT             COMMENT 'Rows expected and not found',
  verdict    STRING NOT NULL    COMMENT 'ok or defect',
  detail     STRING             COMMENT 'Which keys, which values'
)
USING DELTA
CLUSTER BY (checked_at)
${location}
COMMENT 'One comparison of two layers. Append-only.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.appendOnly' = 'true'
)
