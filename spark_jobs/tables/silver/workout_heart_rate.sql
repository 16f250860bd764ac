CREATE TABLE IF NOT EXISTS ${table} (
  user_id    BIGINT NOT NULL    COMMENT 'Member',
  workout_id BIGINT NOT NULL    COMMENT 'Workout of the programme',
  session_id BIGINT NOT NULL    COMMENT 'Session, unique with member and workout',
  read_at    TIMESTAMP NOT NULL COMMENT 'When it was read',
  bpm        DOUBLE NOT NULL    COMMENT 'Beats a minute'
)
USING DELTA
CLUSTER BY (user_id, read_at)
${location}
COMMENT 'A reading inside a completed session. Key: user_id, workout_id, session_id, read_at.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true'
)
