CREATE OR REPLACE VIEW ${table}
COMMENT 'Quarantined records as they stand now: quarantined, or accepted by a replay'
AS SELECT
  refused.source, refused.topic, refused.partition, refused.offset, refused.row_version,
  coalesce(last.outcome, 'refused') = 'accepted' AS is_accepted,
  coalesce(last.reason, refused.reason) AS reason, coalesce(last.detail, refused.detail) AS detail,
  refused.key, refused.value, refused.first_seen_at, last.decided_at, coalesce(last.times, 0) AS replays
FROM ${catalog}.ops.quarantine AS refused
LEFT JOIN (
  SELECT source, topic, partition, offset, row_version, key, max(decided_at) AS decided_at, count(*) AS times,
    max_by(outcome, decided_at) AS outcome, max_by(reason, decided_at) AS reason, max_by(detail, decided_at) AS detail
  FROM ${catalog}.ops.quarantine_outcomes
  GROUP BY source, topic, partition, offset, row_version, key
) AS last
ON refused.source = last.source AND refused.topic <=> last.topic AND refused.partition <=> last.partition
  AND refused.offset <=> last.offset AND refused.row_version <=> last.row_version AND refused.key <=> last.key
