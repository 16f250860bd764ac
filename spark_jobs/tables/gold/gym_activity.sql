CREATE TABLE IF NOT EXISTS ${table} (
  activity_date      DATE NOT NULL          COMMENT 'UTC day of the entry',
  gym_id             BIGINT NOT NULL        COMMENT 'Gym',
  user_id            BIGINT                 COMMENT 'Member; NULL for an unknown address',
  mac_address        STRING NOT NULL        COMMENT 'Address seen at the gym',
  visits             BIGINT NOT NULL        COMMENT 'Visits, also open ones',
  workouts           ARRAY<BIGINT> NOT NULL COMMENT 'Distinct workouts of the sessions that start in these visits, ascending',
  minutes_in_gym     DOUBLE                 COMMENT 'Minutes of the closed visits; NULL when none is closed',
  minutes_exercising DOUBLE NOT NULL        COMMENT 'Minutes of the completed sessions that start in these visits'
)
USING DELTA
CLUSTER BY (user_id, activity_date)
${location}
COMMENT 'A day of a member, or of an unknown address, in a gym. Key: activity_date, gym_id, user_id, mac_address.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true'
)
