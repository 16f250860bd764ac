CREATE TABLE IF NOT EXISTS ${table} (
  workout_date    DATE NOT NULL   COMMENT 'UTC day of the start',
  gym_id          BIGINT          COMMENT 'Gym of the visit in which the session starts; NULL outside',
  age_band        STRING NOT NULL COMMENT 'Age band on that day',
  started         BIGINT NOT NULL COMMENT 'Sessions started',
  completed       BIGINT NOT NULL COMMENT 'of these completed',
  abandoned       BIGINT NOT NULL COMMENT 'of these abandoned',
  open            BIGINT NOT NULL COMMENT 'of these still open',
  completion_rate DOUBLE NOT NULL COMMENT 'completed / started'
)
USING DELTA
CLUSTER BY (workout_date)
${location}
COMMENT 'A day, gym and age band. Key: workout_date, gym_id, age_band. Sessions without a start do not count.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.every_session_has_one_fate' = 'started = completed + abandoned + open'
)
