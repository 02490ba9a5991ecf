# Sourced by every shell of a node, and by what lies beside it: where things are, the token, and where runs are kept.
. ~/.miseg-bucket
export PATH="$HOME/miseg-env/bin:$PATH"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token" RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
export MISEG_STORAGE="$MISEG_BUCKET/miseg"
