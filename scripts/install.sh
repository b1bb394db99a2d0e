#!/usr/bin/env bash
# Makes .venv with the locked dependencies; nothing to do when it is up to date.
# pip's own configuration (index, find-links, proxies) is honoured: where it offers a
# local wheel of a CPU build of torch, that one is taken.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/.installed
want=$(cat requirements.lock pyproject.toml scripts/install.sh | cksum)
[[ -f $stamp && $(cat "$stamp") == "$want" ]] && exit 0

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
if [[ -z $python ]] || ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
  echo "zeroskew needs Python 3.11 (found: ${python:-none}); install it or set PYTHON=/path/to/python3.11" >&2
  exit 2
fi
started=$SECONDS
[[ -x .venv/bin/python ]] && .venv/bin/python -c '' 2>/dev/null || { rm -rf .venv; "$python" -m venv .venv; }
rm -f "$stamp"
total=$(grep -c == requirements.lock)
echo "installing $total locked packages into .venv (a few minutes the first time)"
log=.venv/install.log
status=0
.venv/bin/python -m pip install --disable-pip-version-check --no-input -r requirements.lock >"$log" 2>&1 &
pip=$!
trap 'kill $pip 2>/dev/null || true; exit 130' INT TERM
while kill -0 $pip 2>/dev/null; do
  if [[ -t 1 ]]; then
    printf '\r  %3ds  %s packages found' $((SECONDS - started)) "$(grep -c '^Collecting\|^Requirement already' "$log" || true)"
  fi
  sleep 1
done
wait $pip || status=$?
if [[ -t 1 ]]; then printf '\n'; fi
if ((status)); then
  grep -v "^WARNING: Location" "$log" | tail -n 15 >&2
  echo "installing failed; the whole log is $log" >&2
  exit "$status"
fi
.venv/bin/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e . >>"$log" 2>&1 ||
  { tail -n 15 "$log" >&2; exit 1; }
echo "$want" >"$stamp"
echo "installed in $((SECONDS - started)) s"
