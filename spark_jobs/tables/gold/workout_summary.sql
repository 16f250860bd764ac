CREATE TABLE IF NOT EXISTS ${table} (
  user_id            BIGINT NOT NULL    COMMENT 'Member',
  workout_id         BIGINT NOT NULL    COMMENT 'Workout of the programme',
  session_id         BIGINT NOT NULL    COMMENT 'Session, unique with member and workout',
  started_at         TIMESTAMP NOT NULL COMMENT 'Start',
  ended_at           TIMESTAMP NOT NULL COMMENT 'End',
  minutes_exercising DOUBLE NOT NULL    COMMENT 'Minutes from start to end, two decimals',
  min_bpm            DOUBLE             COMMENT 'Lowest reading; NULL without readings',
  avg_bpm            DOUBLE             COMMENT 'Mean of the readings; NULL without readings',
  max_bpm            DOUBLE             COMMENT 'Highest reading; NULL without readings',
  readings           BIGINT NOT NULL    COMMENT 'Readings in the session',
  gym_id             BIGINT             COMMENT 'Gym of the visit in which it starts; NULL outside',
  age_band           STRING NOT NULL    COMMENT 'Age band on the day of the start',
  gender             STRING             COMMENT 'Gender, by the profile now',
  city               STRING             COMMENT 'City, by the profile now',
  state              STRING             COMMENT 'State, by the profile now'
)
USING DELTA
CLUSTER BY (user_id, started_at)
${location}
COMMENT 'A completed session, also one without readings. Key: user_id, workout_id, session_id.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true'
)
