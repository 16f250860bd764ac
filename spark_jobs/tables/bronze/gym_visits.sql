CREATE TABLE IF NOT EXISTS ${table} (
  visit_id    BIGINT NOT NULL    COMMENT 'Visit',
  mac_address STRING             COMMENT 'Address seen at the gym',
  gym_id      BIGINT             COMMENT 'Gym',
  login_at    TIMESTAMP          COMMENT 'Entry',
  logout_at   TIMESTAMP          COMMENT 'Exit; NULL while inside',
  row_version BIGINT NOT NULL    COMMENT 'Row version in app.gym_visits; rises with every change of the row',
  is_deleted  BOOLEAN NOT NULL   COMMENT 'The row is gone from the source; the other columns are its last known values',
  ingested_at TIMESTAMP NOT NULL COMMENT 'When this version was read'
)
USING DELTA
CLUSTER BY (visit_id)
${location}
COMMENT 'One version of a row of app.gym_visits. Key: visit_id, row_version, is_deleted. Append-only.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true'
)
