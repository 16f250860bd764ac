CREATE TABLE IF NOT EXISTS ${table} (
  user_id        BIGINT NOT NULL    COMMENT 'Member',
  position       STRING NOT NULL    COMMENT 'Place in the log of the source; orders as text',
  op             STRING NOT NULL    COMMENT 'c, u, d or r',
  date_of_birth  DATE               COMMENT 'Date of birth',
  sex            STRING             COMMENT 'Sex',
  gender         STRING             COMMENT 'Gender',
  first_name     STRING             COMMENT 'First name',
  last_name      STRING             COMMENT 'Last name',
  street_address STRING             COMMENT 'Street and number',
  city           STRING             COMMENT 'City',
  state          STRING             COMMENT 'State',
  zip            STRING             COMMENT 'Postal code',
  changed_at     TIMESTAMP          COMMENT 'When the member changed it; of a delete when the last change was',
  committed_at   TIMESTAMP NOT NULL COMMENT 'When the source committed the change'
)
USING DELTA
CLUSTER BY (user_id)
${location}
COMMENT 'An accepted change of a profile. Key: user_id, position. Of a delete the fields are the last known.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.known_op' = 'op IN (''c'', ''u'', ''d'', ''r'')'
)
