-- The roles and their databases, each role with nothing beyond its own, as sre/targets/local/database.py makes them.
\set ON_ERROR_STOP on
\set mlflow `cat /etc/postgres/passwords/mlflow`
\set serving `cat /etc/postgres/passwords/serving`
\set drills `cat /etc/postgres/passwords/drills`
\set backup `cat /etc/postgres/passwords/backup`
\set monitor `cat /etc/postgres/passwords/monitor`

SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY['mlflow', 'serving', 'drills', 'backup', 'monitor']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE mlflow PASSWORD :'mlflow';
ALTER ROLE serving PASSWORD :'serving';
ALTER ROLE drills PASSWORD :'drills';
ALTER ROLE backup PASSWORD :'backup';
ALTER ROLE monitor PASSWORD :'monitor';

SELECT format('CREATE DATABASE %I OWNER %I', name, owner)
  FROM (VALUES ('mlflow', 'mlflow'), ('predictions', 'serving'), ('drills', 'drills')) AS wanted (name, owner)
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec

GRANT pg_monitor TO monitor;
GRANT pg_read_all_data, pg_read_all_settings TO backup;
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean) TO backup;
GRANT EXECUTE ON FUNCTION pg_backup_stop(boolean) TO backup;
GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO backup;
GRANT EXECUTE ON FUNCTION pg_switch_wal() TO backup;
