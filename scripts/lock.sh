#!/usr/bin/env bash
# Pins every dependency of pyproject.toml, all extras included, in requirements.lock.
# Local version labels (a CPU build of torch, say) are dropped: the lock fits any index.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$(mktemp -d); trap 'rm -rf "$tool"' EXIT
python3.11 -m venv "$tool"
"$tool/bin/pip" -q install uv
links=$("$tool/bin/pip" config get global.find-links 2>/dev/null || true)
"$tool/bin/uv" pip compile pyproject.toml --all-extras --python-version 3.11 --no-annotate \
  --no-header ${links:+--find-links "$links"} -q -o "$tool/lock" >/dev/null
{ echo "# Made by scripts/lock.sh from pyproject.toml; do not edit."
  sed -E '/^--/d; s/^([A-Za-z0-9._-]+==[^ +]+)\+[^ ;]+/\1/' "$tool/lock"; } > requirements.lock
echo "requirements.lock: $(grep -c == requirements.lock) packages"
