-- Findings count each kind of defect, and what is pending.
ALTER TABLE ${catalog}.ops.reconciliation ADD COLUMNS (
  unexpected BIGINT COMMENT 'Rows found and not expected',
  doubled    BIGINT COMMENT 'Rows beyond the first of their key',
  changed    BIGINT COMMENT 'Rows whose columns differ',
  pending    BIGINT COMMENT 'Rows that differ until the next run of their job, which has news to read'
);
