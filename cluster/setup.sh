#!/bin/bash
# setup.sh PACKAGES...: on every node, each time it starts. PACKAGES are what this cloud's storage and API want.
set -euo pipefail
chmod 600 ~/.ray/auth_token ~/.mlflow/credentials ~/.config/miseg/state.key
chmod 700 ~/.config/miseg
python3 -m venv ~/miseg-env || {
  sudo apt-get -o DPkg::Lock::Timeout=300 update
  sudo apt-get -o DPkg::Lock::Timeout=300 install -y python3-venv
  python3 -m venv ~/miseg-env
}
# For people and for `ray exec`: `ray`, `python` and the token in every shell.
grep -qs cluster/profile.sh ~/.bashrc || echo '. ~/miseg-source/cluster/profile.sh' >> ~/.bashrc
# all: PostgreSQL's driver is among it. Flask-WTF: for MLflow's login.
cd ~/miseg-source
~/miseg-env/bin/pip install -c constraints.txt '.[all]' Flask-WTF "$@"
