-- The source systems on Azure SQL (postgresql.sql is the same on one machine). Run once by the owner of the database,
-- with sqlcmd; running it again changes nothing. Logins and roles come from infrastructure; `debezium` needs
-- db_owner or the cdc role named below.

IF SCHEMA_ID(N'app') IS NULL EXEC (N'CREATE SCHEMA app');
GO

-- Row versions ------------------------------------------------------------------------------------------------------
-- rowversion is counted by the database at every insert and update. Readers take versions below
-- MIN_ACTIVE_ROWVERSION(), so a transaction that commits late is never skipped.
IF OBJECT_ID(N'app.registered_users') IS NULL
CREATE TABLE app.registered_users (
  user_id       bigint            NOT NULL PRIMARY KEY,
  device_id     bigint            NOT NULL,
  mac_address   varchar(64)       NOT NULL,
  registered_at datetimeoffset(6) NOT NULL,
  row_version   rowversion        NOT NULL,
  INDEX registered_users_row_version (row_version)
);
GO

IF OBJECT_ID(N'app.gym_visits') IS NULL
CREATE TABLE app.gym_visits (
  visit_id    bigint            NOT NULL PRIMARY KEY,
  mac_address varchar(64)       NULL,
  gym_id      bigint            NULL,
  login_at    datetimeoffset(6) NULL,
  logout_at   datetimeoffset(6) NULL, -- NULL while inside
  row_version rowversion        NOT NULL,
  INDEX gym_visits_row_version (row_version)
);
GO

-- Captured tables ---------------------------------------------------------------------------------------------------
IF OBJECT_ID(N'app.user_profile') IS NULL
CREATE TABLE app.user_profile (
  user_id        bigint            NOT NULL PRIMARY KEY,
  date_of_birth  date              NULL,
  sex            nvarchar(32)      NULL,
  gender         nvarchar(32)      NULL,
  first_name     nvarchar(200)     NULL,
  last_name      nvarchar(200)     NULL,
  street_address nvarchar(400)     NULL,
  city           nvarchar(200)     NULL,
  state          nvarchar(64)      NULL,
  zip            nvarchar(32)      NULL,
  changed_at     datetimeoffset(6) NOT NULL
);
GO

-- Outbox: what an application writes in the same transaction as its own data becomes one message. A computed column is
-- not captured by change data capture, and a trigger before the insert does not exist, so a default cannot see the
-- row either: an INSTEAD OF trigger writes the message.
IF OBJECT_ID(N'app.workout_events') IS NULL
CREATE TABLE app.workout_events (
  event_id    uniqueidentifier  NOT NULL PRIMARY KEY DEFAULT NEWID(),
  user_id     bigint            NOT NULL,
  workout_id  bigint            NOT NULL,
  session_id  bigint            NOT NULL,
  action      nvarchar(32)      NOT NULL,
  occurred_at datetimeoffset(6) NOT NULL,
  payload     varbinary(1000)   NULL -- the message of the `workout` topic, UTF-8; filled by the trigger
);
GO

CREATE OR ALTER TRIGGER app.write_workout_message ON app.workout_events INSTEAD OF INSERT AS
BEGIN
  SET NOCOUNT ON;
  INSERT INTO app.workout_events (event_id, user_id, workout_id, session_id, action, occurred_at, payload)
  SELECT COALESCE(event_id, NEWID()), user_id, workout_id, session_id, action, occurred_at,
    CONVERT(varbinary(1000), CONVERT(varchar(1000), CONCAT(
      '{"user_id":', user_id, ',"workout_id":', workout_id, ',"session_id":', session_id,
      ',"action":"', STRING_ESCAPE(action, 'json'), '","timestamp":',
      -- DATEDIFF_BIG counts borders crossed, so seconds and the microseconds beyond them are taken apart
      DATEDIFF_BIG(second, '1970-01-01T00:00:00+00:00', occurred_at), '.',
      RIGHT(CONCAT('000000', DATEPART(microsecond, occurred_at)), 6), '}'
    ) COLLATE Latin1_General_100_CI_AS_SC_UTF8))
  FROM inserted;
END;
GO

-- Debezium writes here every few seconds, so that its position moves on while the captured tables are quiet.
IF OBJECT_ID(N'app.capture_heartbeat') IS NULL
CREATE TABLE app.capture_heartbeat (
  id      int               NOT NULL PRIMARY KEY CHECK (id = 1),
  beat_at datetimeoffset(6) NOT NULL
);
GO

-- Change data capture, which Debezium reads. Azure SQL runs its capture job itself.
IF NOT EXISTS (SELECT 1 FROM sys.databases WHERE name = DB_NAME() AND is_cdc_enabled = 1) EXEC sys.sp_cdc_enable_db;
GO
IF NOT EXISTS (SELECT 1 FROM sys.tables WHERE object_id = OBJECT_ID(N'app.user_profile') AND is_tracked_by_cdc = 1)
  EXEC sys.sp_cdc_enable_table @source_schema = N'app', @source_name = N'user_profile',
    @role_name = N'debezium', @supports_net_changes = 0;
GO
IF NOT EXISTS (SELECT 1 FROM sys.tables WHERE object_id = OBJECT_ID(N'app.workout_events') AND is_tracked_by_cdc = 1)
  EXEC sys.sp_cdc_enable_table @source_schema = N'app', @source_name = N'workout_events',
    @role_name = N'debezium', @supports_net_changes = 0;
GO
IF NOT EXISTS (SELECT 1 FROM sys.tables WHERE object_id = OBJECT_ID(N'app.capture_heartbeat') AND is_tracked_by_cdc = 1)
  EXEC sys.sp_cdc_enable_table @source_schema = N'app', @source_name = N'capture_heartbeat',
    @role_name = N'debezium', @supports_net_changes = 0;
GO
