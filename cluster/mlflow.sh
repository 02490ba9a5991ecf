#!/bin/bash
# Start MLflow's server on the head, unless it answers already, and wait until it does. It survives `ray stop`.
#
# Runs and logins lie in PostgreSQL (databases.sh), artifacts pass through the server to the bucket, so clients need no
# rights to it. It binds the private address; foreign Host headers are refused by MLflow's default. The login goes by
# files and the environment, never by arguments, which every user of a machine can read; who else gets one from its
# administrator may read what others' jobs keep.
set -euo pipefail
. ~/miseg-source/cluster/profile.sh
export PGHOST="${PGHOST:-/var/run/postgresql}"
address="$(hostname -I | cut -d' ' -f1)"
port="${MISEG_MLFLOW_PORT:-5000}"
umask 077
mkdir -p ~/mlflow
answers() { curl -sf --max-time 5 -o /dev/null "http://$address:$port/health"; }
# The driver is named: SQLAlchemy's own choice, psycopg 3, is not installed.
answers || {
  [ ! -s ~/mlflow/mlflow.db ] ||
    echo "runs from before PostgreSQL are in ~/mlflow/mlflow.db: mlflow ui --backend-store-uri sqlite:///$HOME/mlflow/mlflow.db"
  [ -s ~/mlflow/secret-key ] || python -c 'import secrets; print(secrets.token_hex(32))' > ~/mlflow/secret-key
  printf '%s\n' '[mlflow]' 'default_permission = READ' 'database_uri = postgresql+psycopg2:///mlflow_login' \
    'auth_cache_ttl_seconds = 60' > ~/mlflow/login.ini
  export MLFLOW_AUTH_CONFIG_PATH="$HOME/mlflow/login.ini"
  export MLFLOW_FLASK_SERVER_SECRET_KEY="$(cat ~/mlflow/secret-key)"
  export MLFLOW_AUTH_ADMIN_USERNAME="$(sed -n 's/^mlflow_tracking_username *= *//p' ~/.mlflow/credentials)"
  export MLFLOW_AUTH_ADMIN_PASSWORD="$(sed -n 's/^mlflow_tracking_password *= *//p' ~/.mlflow/credentials)"
  # With nothing of the SSH session in its hands.
  setsid nohup mlflow server --app-name basic-auth --host "$address" --port "$port" \
    --backend-store-uri postgresql+psycopg2:///mlflow --artifacts-destination "$MISEG_BUCKET/mlflow" \
    >> ~/mlflow/server.log 2>&1 < /dev/null &
  server=$!
}
for attempt in $(seq 180); do
  answers && exit
  kill -0 "${server:-$$}" || break
  sleep 1
done
echo "MLflow does not answer on $address:$port: see ~/mlflow/server.log" >&2
exit 1
