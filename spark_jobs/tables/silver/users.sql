CREATE TABLE IF NOT EXISTS ${table} (
  user_id       BIGINT NOT NULL    COMMENT 'Member',
  registered_at TIMESTAMP NOT NULL COMMENT 'Earliest registration of any version'
)
USING DELTA
CLUSTER BY (user_id)
${location}
COMMENT 'A member. Key: user_id.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.since_2000' = 'registered_at >= TIMESTAMP''2000-01-01 00:00:00Z'''
)
