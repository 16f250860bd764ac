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
  changed_at     TIMESTAMP NOT NULL COMMENT 'When the member changed it',
  valid_from     TIMESTAMP NOT NULL COMMENT 'From, inclusive',
  valid_to       TIMESTAMP          COMMENT 'To, exclusive; NULL for the profile now',
  is_current     BOOLEAN NOT NULL   COMMENT 'Whether the period still lasts'
)
USING DELTA
CLUSTER BY (user_id)
${location}
COMMENT 'A profile during a period; a delete ends it. Key: user_id, valid_from. No overlaps.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.positive_period' = 'valid_to IS NULL OR valid_to > valid_from',
  'delta.constraints.current_is_open' = 'is_current = (valid_to IS NULL)'
)
