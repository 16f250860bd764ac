CREATE TABLE IF NOT EXISTS ${table} (
  query             STRING NOT NULL              COMMENT 'Name of the stream',
  run_id            STRING NOT NULL              COMMENT 'Run of the platform that held it',
  version           STRING                       COMMENT 'Code version',
  epoch             BIGINT                       COMMENT 'Generation of the stream',
  first_batch       BIGINT NOT NULL              COMMENT 'First batch of the stretch; one without records is told of the batch before, -1: of none',
  last_batch        BIGINT NOT NULL              COMMENT 'Last batch of the stretch',
  started_at        TIMESTAMP NOT NULL           COMMENT 'Start of the first batch',
  ended_at          TIMESTAMP NOT NULL           COMMENT 'End of the last batch',
  rows_in           BIGINT NOT NULL              COMMENT 'Records read',
  rows_accepted     BIGINT NOT NULL              COMMENT 'Rows written to the table of distinct rows',
  rows_duplicate    BIGINT NOT NULL              COMMENT 'Records that said again what was known',
  rows_quarantined  BIGINT NOT NULL              COMMENT 'Records refused',
  rows_per_second   DOUBLE                       COMMENT 'Records a second over the stretch',
  start_offsets     MAP<STRING, BIGINT> NOT NULL COMMENT 'topic-partition: offset before the first batch',
  end_offsets       MAP<STRING, BIGINT> NOT NULL COMMENT 'topic-partition: offset after the last batch',
  lag               BIGINT                       COMMENT 'Records on the topics that were not read at the end',
  max_event_time    TIMESTAMP                    COMMENT 'Latest event time among the accepted',
  max_batch_seconds DOUBLE                       COMMENT 'Longest batch',
  durations_ms      MAP<STRING, BIGINT> NOT NULL COMMENT 'Phase: milliseconds over the stretch'
)
USING DELTA
CLUSTER BY (query, started_at)
${location}
COMMENT 'A stretch of batches of a stream. Append-only.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.appendOnly' = 'true'
)
