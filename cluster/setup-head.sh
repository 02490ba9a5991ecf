#!/bin/bash
# On the head, each time it is set up: PostgreSQL and Prometheus, from the system's packages.
set -euo pipefail
command -v psql > /dev/null && command -v prometheus > /dev/null || {
  # Debian and Ubuntu start what they install, and these two on all addresses; `miseg monitor` starts Prometheus.
  sudo systemctl mask prometheus prometheus-node-exporter
  sudo apt-get -o DPkg::Lock::Timeout=300 update
  sudo apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends postgresql prometheus
}
for attempt in $(seq 60); do pg_isready -q && break; sleep 1; done
# PostgreSQL is reached through its socket alone, and keeps its data on the head's disk.
[ -z "$(sudo -u postgres psql -tAc 'SHOW listen_addresses')" ] || {
  sudo -u postgres psql -c "ALTER SYSTEM SET listen_addresses = ''"
  sudo systemctl restart postgresql
}
bash ~/miseg-source/cluster/databases.sh
