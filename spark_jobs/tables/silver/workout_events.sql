CREATE TABLE IF NOT EXISTS ${table} (
  user_id     BIGINT NOT NULL    COMMENT 'Member',
  workout_id  BIGINT NOT NULL    COMMENT 'Workout of the programme',
  session_id  BIGINT NOT NULL    COMMENT 'Session, unique with member and workout',
  action      STRING NOT NULL    COMMENT 'start or stop',
  occurred_at TIMESTAMP NOT NULL COMMENT 'When it happened'
)
USING DELTA
CLUSTER BY (user_id, session_id)
${location}
COMMENT 'An accepted start or stop. Key: all columns.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.known_action' = 'action IN (''start'', ''stop'')'
)
