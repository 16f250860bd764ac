-- What did we know about a member at the end of a UTC day? Parameters: :user_id BIGINT, :day DATE.
-- No row: no profile then (not yet, or deleted). Periods do not overlap, so there is at most one.
SELECT *
FROM silver.user_profile_history
WHERE user_id = :user_id
  AND valid_from < date_add(:day, 1)
  AND (valid_to IS NULL OR valid_to >= date_add(:day, 1))
