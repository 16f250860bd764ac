CREATE TABLE IF NOT EXISTS ${table} (
  checked_at TIMESTAMP NOT NULL COMMENT 'When',
  run_id     STRING NOT NULL    COMMENT 'The run that compared',
  what       STRING NOT NULL    COMMENT 'Name of the comparison',
  scope      STRING             COMMENT 'Table or topic that was compared',
  expected   BIGINT             COMMENT 'Rows or sum expected',
  found      BIGINT             COMMENT 'Rows or sum found',
  missing    BIGINT             COMMENT 'Rows expected and not found',
  unexpected BIGINT             COMMENT 'Rows found and not expected',
  doubled    BIGINT             COMMENT 'Rows beyond the first of their key',
  changed    BIGINT             COMMENT 'Rows whose columns differ',
  pending    BIGINT             COMMENT 'Rows that differ until the next run of their job, which has news to read',
  verdict    STRING NOT NULL    COMMENT 'ok or defect',
  detail     STRING             COMMENT 'Which keys and columns; no values'
)
USING DELTA
CLUSTER BY (checked_at)
${location}
COMMENT 'One comparison of two layers. Append-only.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.appendOnly' = 'true'
)
