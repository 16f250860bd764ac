-- What happens in each gym: the last 30 days that have visits. Open visits count, their minutes do not yet.
-- The newest of them may be years old; a day after today is a wrong clock, and would hide all others.
SELECT
  gym_id,
  sum(visits)                                       AS visits,
  count(DISTINCT user_id)                           AS members,
  sum(CASE WHEN user_id IS NULL THEN visits ELSE 0 END) AS visits_of_unknown_addresses,
  sum(size(workouts))                               AS workouts,
  round(sum(minutes_in_gym) / 60, 1)                AS hours_in_gym,
  round(sum(minutes_exercising) / 60, 1)            AS hours_exercising
FROM gold.gym_activity
WHERE activity_date > (SELECT max(activity_date) FROM gold.gym_activity WHERE activity_date <= current_date()) - INTERVAL 30 DAYS
  AND activity_date <= current_date()
GROUP BY gym_id
ORDER BY visits DESC, gym_id
