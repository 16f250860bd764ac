CREATE OR REPLACE VIEW ${table}
COMMENT 'gold.bpm_trends with the member who wore the device; a minute in which the device changed hands belongs to who had it at its start'
AS SELECT devices.user_id, trends.*
FROM ${catalog}.gold.bpm_trends AS trends
LEFT JOIN ${catalog}.silver.user_devices AS devices
  ON devices.device_id = trends.device_id
  AND devices.valid_from <= trends.minute
  AND (devices.valid_to IS NULL OR trends.minute < devices.valid_to)
