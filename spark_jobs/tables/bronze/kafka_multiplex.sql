CREATE TABLE IF NOT EXISTS ${table} (
  topic           STRING NOT NULL                           COMMENT 'Kafka topic',
  partition       INT NOT NULL                              COMMENT 'Kafka partition',
  offset          BIGINT NOT NULL                           COMMENT 'Offset in the partition; transactions leave gaps',
  kafka_timestamp TIMESTAMP                                 COMMENT 'Arrival at the broker (LogAppendTime)',
  key             BINARY                                    COMMENT 'Record key as it came',
  value           BINARY                                    COMMENT 'Record value as it came; NULL is a tombstone',
  headers         ARRAY<STRUCT<key: STRING, value: BINARY>> COMMENT 'Record headers',
  ingested_at     TIMESTAMP NOT NULL                        COMMENT 'When this row was written',
  event_date      DATE NOT NULL                             COMMENT 'Day of kafka_timestamp'
)
USING DELTA
PARTITIONED BY (topic, event_date)
${location}
COMMENT 'One Kafka record of any topic, bytes as they came. Key: topic, partition, offset. Append-only.'
TBLPROPERTIES (
  'delta.enableChangeDataFeed' = 'true',
  'delta.dataSkippingStatsColumns' = 'offset,kafka_timestamp',
  'delta.checkpointInterval' = '100'
)
