-- The source systems on PostgreSQL, which stands in for Azure SQL on one machine (sqlserver.sql is the same there).
-- Applied by the owner of the database at every start; running it again changes nothing.
-- Roles: `fitness` writes as the company's applications do, `debezium` reads the changes.

CREATE SCHEMA IF NOT EXISTS app AUTHORIZATION fitness;
SET ROLE fitness;
SET client_min_messages = warning;

-- Row versions ------------------------------------------------------------------------------------------------------
-- A row carries the id of the transaction that wrote it last. Readers take versions below the oldest transaction still
-- in flight (pg_snapshot_xmin(pg_current_snapshot())), so a transaction that commits late is never skipped.
CREATE OR REPLACE FUNCTION app.stamp_row_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.row_version := pg_current_xact_id()::text::bigint;
  RETURN NEW;
END $$;

CREATE TABLE IF NOT EXISTS app.registered_users (
  user_id       bigint      PRIMARY KEY,
  device_id     bigint      NOT NULL,
  mac_address   text        NOT NULL,
  registered_at timestamptz NOT NULL,
  row_version   bigint      NOT NULL
);
CREATE INDEX IF NOT EXISTS registered_users_row_version ON app.registered_users (row_version);
CREATE OR REPLACE TRIGGER stamp_row_version BEFORE INSERT OR UPDATE ON app.registered_users
  FOR EACH ROW EXECUTE FUNCTION app.stamp_row_version();

CREATE TABLE IF NOT EXISTS app.gym_visits (
  visit_id    bigint      PRIMARY KEY,
  mac_address text,
  gym_id      bigint,
  login_at    timestamptz,
  logout_at   timestamptz, -- NULL while inside
  row_version bigint      NOT NULL
);
CREATE INDEX IF NOT EXISTS gym_visits_row_version ON app.gym_visits (row_version);
CREATE OR REPLACE TRIGGER stamp_row_version BEFORE INSERT OR UPDATE ON app.gym_visits
  FOR EACH ROW EXECUTE FUNCTION app.stamp_row_version();

-- Captured tables ---------------------------------------------------------------------------------------------------
CREATE TABLE IF NOT EXISTS app.user_profile (
  user_id        bigint PRIMARY KEY,
  date_of_birth  date,
  sex            text,
  gender         text,
  first_name     text,
  last_name      text,
  street_address text,
  city           text,
  state          text,
  zip            text,
  changed_at     timestamptz NOT NULL
);
ALTER TABLE app.user_profile REPLICA IDENTITY FULL; -- a delete carries the whole row that went

-- Capturing tells of each row that goes, and nothing of a TRUNCATE; SQL Server refuses that on a captured table too.
CREATE OR REPLACE FUNCTION app.refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'TRUNCATE of %.% would not be captured; DELETE its rows', TG_TABLE_SCHEMA, TG_TABLE_NAME;
END $$;
CREATE OR REPLACE TRIGGER refuse_truncate BEFORE TRUNCATE ON app.user_profile
  FOR EACH STATEMENT EXECUTE FUNCTION app.refuse_truncate();

-- Outbox: what an application writes in the same transaction as its own data becomes one message, byte for byte.
CREATE TABLE IF NOT EXISTS app.workout_events (
  event_id    uuid        PRIMARY KEY DEFAULT uuidv7(),
  user_id     bigint      NOT NULL,
  workout_id  bigint      NOT NULL,
  session_id  bigint      NOT NULL,
  action      text        NOT NULL,
  occurred_at timestamptz NOT NULL,
  payload     bytea       NOT NULL -- the message of the `workout` topic; filled by the trigger
);

CREATE OR REPLACE FUNCTION app.write_workout_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.payload := convert_to(format(
    '{"user_id":%s,"workout_id":%s,"session_id":%s,"action":%s,"timestamp":%s}',
    NEW.user_id, NEW.workout_id, NEW.session_id, to_json(NEW.action),
    -- at least one decimal, no more than are needed: 1678521900.0, 1678521900.25
    regexp_replace(extract(epoch FROM NEW.occurred_at)::text, '(\.\d+?)0*$', '\1')), 'UTF8');
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER write_workout_message BEFORE INSERT ON app.workout_events
  FOR EACH ROW EXECUTE FUNCTION app.write_workout_message();

-- Debezium writes here every few seconds, so that its slot moves on while the captured tables are quiet; otherwise other
-- databases of the server (Airflow's) would hold back WAL without end. Published, but not captured.
CREATE TABLE IF NOT EXISTS app.capture_heartbeat (
  id      integer     PRIMARY KEY CHECK (id = 1),
  beat_at timestamptz NOT NULL
);

-- Two `up`s at once or a second one: creating a publication has no IF NOT EXISTS.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'fitness') THEN
    CREATE PUBLICATION fitness FOR TABLE app.user_profile, app.workout_events, app.capture_heartbeat;
  END IF;
END $$;

GRANT USAGE ON SCHEMA app TO debezium;
GRANT SELECT ON app.user_profile, app.workout_events TO debezium;
GRANT SELECT, INSERT, UPDATE ON app.capture_heartbeat TO debezium;
RESET ROLE;
