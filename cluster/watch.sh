#!/bin/bash
# watch.sh NAME COMMAND...: COMMAND in the background, its output in ~/miseg_NAME.log; one of each NAME, however often
# this runs: the lock.
. ~/miseg-source/cluster/profile.sh
name="$1"
shift
setsid nohup flock -n ~/.miseg-"$name".lock "$@" >> ~/miseg_"$name".log 2>&1 < /dev/null &
