#!/usr/bin/env bash
# Pins every dependency: requirements.lock, all extras of pyproject.toml, for development; and
# images/*/requirements.lock, what each image needs, at the versions of the first.
#
#   scripts/lock.sh             pins that still fit stay as they are
#   scripts/lock.sh --upgrade   the newest of everything
#
# A lock fits any index and any build of torch: local version labels (a CPU build, say) are dropped,
# and so are the CUDA packages, which torch's CUDA build pins itself.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$(mktemp -d); trap 'rm -rf "$tool"' EXIT
python3.11 -m venv "$tool"
"$tool/bin/pip" -q install uv
links=${PIP_FIND_LINKS:-$("$tool/bin/pip" config get global.find-links 2>/dev/null || true)}
upgrade=(); [[ ${1:-} == --upgrade ]] && upgrade=(--upgrade)

# lock OUTPUT INPUTS AND OPTIONS…
lock() {
  local output=$1; shift
  if [[ -f $output ]]; then cp "$output" "$tool/lock"; fi
  "$tool/bin/uv" pip compile "$@" "${upgrade[@]}" --python-version 3.11 --no-annotate --no-header \
    ${links:+--find-links "$links"} -q -o "$tool/lock" >/dev/null
  { echo "# Made by scripts/lock.sh; do not edit."
    sed -E -e '/^--/d; s/^([A-Za-z0-9._-]+==[^ +]+)\+[^ ;]+/\1/' \
      -e '/^(cuda-|nvidia-|triton==)/{/^nvidia-pytriton==/!d}' "$tool/lock"; } >"$tool/new"
  mv "$tool/new" "$output"; rm "$tool/lock"
  echo "$output: $(grep -c == "$output") packages"
}

lock requirements.lock pyproject.toml --all-extras
same=(-c requirements.lock)
lock images/platform/requirements.lock pyproject.toml "${same[@]}" \
  --override images/platform/never_imported.txt
lock images/trainer/requirements.lock pyproject.toml --extra reports --extra training "${same[@]}"
lock images/operator/requirements.lock images/operator/requirements.txt "${same[@]}"
# Beside Triton NumPy is older, and with it what depends on it; wire and file formats are the same.
grep -E '^(hiredis|mmh3|msgpack|onnxruntime|pyarrow|redis)==' requirements.lock >"$tool/formats"
lock images/triton/requirements.lock images/triton/requirements.txt -c "$tool/formats"
