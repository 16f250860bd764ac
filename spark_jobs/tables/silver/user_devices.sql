CREATE TABLE IF NOT EXISTS ${table} (
  user_id     BIGINT NOT NULL    COMMENT 'Member',
  device_id   BIGINT NOT NULL    COMMENT 'Device worn',
  mac_address STRING NOT NULL    COMMENT 'Address that gyms see of it',
  valid_from  TIMESTAMP NOT NULL COMMENT 'From, inclusive',
  valid_to    TIMESTAMP          COMMENT 'To, exclusive; NULL while it is worn'
)
USING DELTA
CLUSTER BY (user_id, device_id)
${location}
COMMENT 'A period in which a member wore a device. Key: user_id, valid_from. A device is on one wrist at a time.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.constraints.positive_period' = 'valid_to IS NULL OR valid_to > valid_from'
)
