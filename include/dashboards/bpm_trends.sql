-- Heart rate by minute over all devices: the last 30 minutes that have readings.
-- The newest of them may be years old; a minute to come is a wrong clock, and would hide all others.
SELECT
  minute,
  count(*)                             AS devices,
  sum(readings)                        AS readings,
  round(sum(readings) / 60, 1)         AS readings_per_second,
  min(min_bpm)                         AS lowest_bpm,
  sum(avg_bpm * readings) / sum(readings) AS average_bpm,
  max(max_bpm)                         AS highest_bpm
FROM gold.bpm_trends
WHERE minute > (SELECT max(minute) FROM gold.bpm_trends WHERE minute <= current_timestamp()) - INTERVAL 30 MINUTES
  AND minute <= current_timestamp()
GROUP BY minute
ORDER BY minute
