#!/usr/bin/env bash
# Pins what images/operator/requirements.txt wants, and what that wants, at the versions of the top
# requirements.lock. To be run after scripts/lock.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$(mktemp -d); trap 'rm -rf "$tool"' EXIT
python3.11 -m venv "$tool"
"$tool/bin/pip" -q install uv
folder=images/operator
"$tool/bin/uv" pip compile "$folder/requirements.txt" -c requirements.lock --python-version 3.11 \
  --no-annotate --no-header -q -o "$tool/lock" >/dev/null
{ echo "# Made by scripts/lock_operator.sh; do not edit."; cat "$tool/lock"; } >"$folder/requirements.lock"
echo "$folder/requirements.lock: $(grep -c == "$folder/requirements.lock") packages"
