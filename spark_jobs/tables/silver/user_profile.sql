CREATE TABLE IF NOT EXISTS ${table} (
  user_id        BIGINT NOT NULL    COMMENT 'Member',
  date_of_birth  DATE               COMMENT 'Date of birth',
  sex            STRING             COMMENT 'Sex',
  gender         STRING             COMMENT 'Gender',
  first_name     STRING             COMMENT 'First name',
  last_name      STRING             COMMENT 'Last name',
  street_address STRING             COMMENT 'Street and number',
  city           STRING             COMMENT 'City',
  state          STRING             COMMENT 'State',
  zip            STRING             COMMENT 'Postal code',
  changed_at     TIMESTAMP NOT NULL COMMENT 'When the member changed it'
)
USING DELTA
CLUSTER BY (user_id)
${location}
COMMENT 'The profile of a member as it is now, by source position. Key: user_id.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true'
)
