CREATE TABLE IF NOT EXISTS ${table} (
  job              STRING NOT NULL              COMMENT 'Job, as silver.users',
  run_id           STRING NOT NULL              COMMENT 'The run as its caller names it',
  status           STRING NOT NULL              COMMENT 'succeeded or failed',
  mode             STRING NOT NULL              COMMENT 'incremental, everything, or rebuild (which leaves the bookkeeping of versions alone)',
  started_at       TIMESTAMP NOT NULL           COMMENT 'Start of the job''s work',
  ended_at         TIMESTAMP NOT NULL           COMMENT 'End of the job''s work',
  clock            TIMESTAMP NOT NULL           COMMENT 'What the job took as the present (--now)',
  touched          BIGINT                       COMMENT 'Keys that were recomputed; NULL for all',
  rows_in          MAP<STRING, BIGINT> NOT NULL COMMENT 'Source: rows that arrived or changed since the run before',
  rows_out         MAP<STRING, BIGINT> NOT NULL COMMENT 'Table: rows inserted, updated or deleted',
  rows_duplicate   MAP<STRING, BIGINT> NOT NULL COMMENT 'Source: rows that said again what was known',
  rows_ignored     MAP<STRING, BIGINT> NOT NULL COMMENT 'Source: rows that say nothing, as tombstones',
  rows_quarantined MAP<STRING, BIGINT> NOT NULL COMMENT 'Source: rows that were refused',
  source_versions  MAP<STRING, BIGINT> NOT NULL COMMENT 'Source: table version, row version or offset up to which it has been read',
  target_versions  MAP<STRING, BIGINT> NOT NULL COMMENT 'Table: version after this run, where it was written',
  error_class      STRING                       COMMENT 'Class of the error of a failed run',
  error            STRING                       COMMENT 'Its message'
)
USING DELTA
CLUSTER BY (job, started_at)
${location}
COMMENT 'One run of one job, said when it ends, well or badly. Append-only.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.appendOnly' = 'true',
  'delta.checkpointInterval' = '100',
  'delta.dataSkippingStatsColumns' = 'job,started_at',
  'delta.constraints.known_status' = 'status IN (''succeeded'', ''failed'')',
  'delta.constraints.known_mode' = 'mode IN (''incremental'', ''everything'', ''rebuild'')'
)
