#!/usr/bin/env bash
# Makes .venv-triton: a Triton server out of a wheel, for tests and the embedded stack. It has an
# environment of its own because its Python backend is built against NumPy 1.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${ZEROSKEW_TRITON_VENV:-.venv-triton}
lock=images/triton/requirements.lock
stamp=$folder/.installed
want=$(cat "$lock" scripts/install_triton.sh | cksum)
[[ -f $stamp && $(cat "$stamp") == "$want" ]] && exit 0
python=${PYTHON:-$(command -v python3.11 || command -v python3)}
echo "installing Triton into $folder (400 MB, a minute or two the first time)"
started=$SECONDS
rm -f "$stamp"
[[ -x $folder/bin/python ]] || "$python" -m venv "$folder"
"$folder/bin/pip" install --disable-pip-version-check --no-input -q -r "$lock" >"$folder/install.log" 2>&1 ||
  { tail -n 15 "$folder/install.log" >&2; echo "installing failed; the whole log is $folder/install.log" >&2; exit 1; }
# The front model is this checkout's own code; the image installs it instead.
pwd >"$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zeroskew.pth"
echo "$want" >"$stamp"
echo "installed in $((SECONDS - started)) s"
