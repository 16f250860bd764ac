CREATE TABLE IF NOT EXISTS ${table} (
  user_id    BIGINT NOT NULL COMMENT 'Member',
  workout_id BIGINT NOT NULL COMMENT 'Workout of the programme',
  session_id BIGINT NOT NULL COMMENT 'Session, unique with member and workout',
  started_at TIMESTAMP       COMMENT 'Earliest start; NULL for stop_only',
  ended_at   TIMESTAMP       COMMENT 'Earliest stop within 3 h of the start; of stop_only the earliest; NULL without',
  status     STRING NOT NULL COMMENT 'open, completed, abandoned or stop_only'
)
USING DELTA
CLUSTER BY (user_id, started_at)
${location}
COMMENT 'A session. Key: user_id, workout_id, session_id.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.known_status' = 'status IN (''open'', ''completed'', ''abandoned'', ''stop_only'')',
  'delta.constraints.ends_after_start' = 'started_at IS NULL OR ended_at IS NULL OR ended_at >= started_at'
)
