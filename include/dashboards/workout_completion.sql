-- Workouts started and completed by day: the last 30 days that have workouts.
-- The newest of them may be years old; a day after today is a wrong clock, and would hide all others.
SELECT
  workout_date,
  sum(started)                               AS started,
  sum(completed)                             AS completed,
  sum(abandoned)                             AS abandoned,
  sum(open)                                  AS open,
  round(100 * sum(completed) / sum(started), 1) AS completed_percent
FROM gold.workout_completion
WHERE workout_date > (SELECT max(workout_date) FROM gold.workout_completion WHERE workout_date <= current_date()) - INTERVAL 30 DAYS
  AND workout_date <= current_date()
GROUP BY workout_date
ORDER BY workout_date
