CREATE TABLE IF NOT EXISTS ${table} (
  visit_id    BIGINT NOT NULL    COMMENT 'Visit',
  user_id     BIGINT             COMMENT 'Member whose device had the address at login; NULL when nobody''s',
  mac_address STRING NOT NULL    COMMENT 'Address seen at the gym',
  gym_id      BIGINT NOT NULL    COMMENT 'Gym',
  login_at    TIMESTAMP NOT NULL COMMENT 'Entry',
  logout_at   TIMESTAMP          COMMENT 'Exit; NULL while inside'
)
USING DELTA
CLUSTER BY (user_id, login_at)
${location}
COMMENT 'A visit. Key: visit_id.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.leaves_after_entry' = 'logout_at IS NULL OR logout_at >= login_at'
)
