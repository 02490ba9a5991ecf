#!/bin/bash
# MLflow's databases, for the user that runs its server: PostgreSQL knows who is at the other end of its socket ("peer"),
# so there is no password to keep. May run as often as one likes.
set -euo pipefail
export PGHOST="${PGHOST:-/var/run/postgresql}"
for attempt in $(seq 60); do pg_isready -q && break; sleep 1; done
user="$(id -un)"
as_postgres() { (cd / && sudo -u postgres env PGHOST="$PGHOST" "$@"); }
found() { [ "$(as_postgres psql -d postgres -tAc "$1")" = 1 ]; }
found "SELECT 1 FROM pg_roles WHERE rolname = '$user'" || as_postgres createuser "$user"
for database in mlflow mlflow_login; do
  found "SELECT 1 FROM pg_database WHERE datname = '$database'" || as_postgres createdb --owner "$user" "$database"
done
