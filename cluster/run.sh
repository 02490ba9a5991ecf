#!/bin/bash
# run.sh COMMAND...: in the environment that Ray's processes hand on to the drivers of jobs; a job hands it on to its
# workers with runtime_env.
. ~/miseg-source/cluster/profile.sh
# Ray sets RAY_HEAD_IP on workers.
export MLFLOW_TRACKING_URI="http://${RAY_HEAD_IP:-$(hostname -I | cut -d' ' -f1)}:5000"
# Ray's launcher exports 1 into the shells of these commands; unset, Ray sets it per task to the CPUs the task has.
unset OMP_NUM_THREADS
ulimit -n 65536 2> /dev/null || ulimit -n "$(ulimit -H -n)"
exec "$@"
