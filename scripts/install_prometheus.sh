#!/usr/bin/env bash
# Puts Debian's prometheus and promtool into one folder outside the checkout and prints its path, for
# the tests of rules and of windows read from Prometheus. Instant when they are there; needs no root.
set -euo pipefail

CACHE=${ZEROSKEW_PROMETHEUS:-${XDG_CACHE_HOME:-$HOME/.cache}/zeroskew/prometheus}
ready() { [[ -x $CACHE/prometheus && -x $CACHE/promtool ]]; }

if ready; then echo "$CACHE"; exit 0; fi
for program in apt-get dpkg; do
  command -v "$program" >/dev/null || {
    echo "no $program: put prometheus and promtool into $CACHE yourself" >&2; exit 1; }
done
mkdir -p "$CACHE"
exec 9>"$CACHE/.lock"; flock 9
if ready; then echo "$CACHE"; exit 0; fi

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial}
apt=(apt-get -qq -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache"
  -o APT::Sandbox::User=root)
log=$CACHE/install.log
(cd "$work" && "${apt[@]}" update && "${apt[@]}" download prometheus && dpkg -x prometheus_*.deb files) \
  >"$log" 2>&1 || { tail -n 15 "$log" >&2; echo "fetching prometheus failed; the whole log is $log" >&2; exit 1; }
for program in promtool prometheus; do
  install -m 755 "$work/files/usr/bin/$program" "$CACHE/.$program.new"
  mv "$CACHE/.$program.new" "$CACHE/$program"
done
echo "$CACHE"
