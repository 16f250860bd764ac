CREATE TABLE IF NOT EXISTS ${table} (
  user_id       BIGINT NOT NULL    COMMENT 'Member',
  device_id     BIGINT             COMMENT 'Device registered by the member',
  mac_address   STRING             COMMENT 'Address that gyms see of the device',
  registered_at TIMESTAMP          COMMENT 'When the member registered it',
  row_version   BIGINT NOT NULL    COMMENT 'Row version in app.registered_users; rises with every change of the row',
  is_deleted    BOOLEAN NOT NULL   COMMENT 'The row is gone from the source; the other columns are its last known values',
  ingested_at   TIMESTAMP NOT NULL COMMENT 'When this version was read'
)
USING DELTA
CLUSTER BY (user_id, device_id)
${location}
COMMENT 'One version of a row of app.registered_users. Key: user_id, row_version, is_deleted. Append-only.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true'
)
