-- Completion of workouts by the member's age on the day: the last 30 days that have workouts.
SELECT
  age_band,
  sum(started)                               AS started,
  sum(completed)                             AS completed,
  round(100 * sum(completed) / sum(started), 1) AS completed_percent
FROM gold.workout_completion
WHERE workout_date > (SELECT max(workout_date) FROM gold.workout_completion) - INTERVAL 30 DAYS
GROUP BY age_band
ORDER BY age_band = 'unknown', age_band <> 'under 18', age_band
