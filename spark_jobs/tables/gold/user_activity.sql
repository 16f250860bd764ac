CREATE TABLE IF NOT EXISTS ${table} (
  user_id            BIGINT NOT NULL COMMENT 'Member',
  activity_date      DATE NOT NULL   COMMENT 'UTC day',
  visits             BIGINT NOT NULL COMMENT 'Visits that begin on this day',
  sessions           BIGINT NOT NULL COMMENT 'Sessions that start on this day',
  minutes_exercising DOUBLE NOT NULL COMMENT 'Minutes of the completed sessions that start on this day',
  minutes_zone_1     DOUBLE NOT NULL COMMENT 'Minutes of workouts at under 60 % of the maximal heart rate',
  minutes_zone_2     DOUBLE NOT NULL COMMENT 'Minutes of workouts at 60 to under 70 % of the maximal heart rate',
  minutes_zone_3     DOUBLE NOT NULL COMMENT 'Minutes of workouts at 70 to under 80 % of the maximal heart rate',
  minutes_zone_4     DOUBLE NOT NULL COMMENT 'Minutes of workouts at 80 to under 90 % of the maximal heart rate',
  minutes_zone_5     DOUBLE NOT NULL COMMENT 'Minutes of workouts at 90 % and more of the maximal heart rate',
  avg_bpm            DOUBLE          COMMENT 'Mean of the workout readings of this day; NULL without',
  max_bpm            DOUBLE          COMMENT 'Highest workout reading of this day; NULL without',
  streak_days        BIGINT NOT NULL COMMENT 'Consecutive days up to this one with a visit or a session'
)
USING DELTA
CLUSTER BY (user_id, activity_date)
${location}
COMMENT 'A day of a member with a visit, a session or a workout reading. Key: user_id, activity_date.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true'
)
