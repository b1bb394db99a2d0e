#!/usr/bin/env bash
# Builds images with buildah and starts each as a cluster would: as its own user, on a root file
# system that is read-only but for /tmp.
#
#   scripts/build_images.sh BASE IMAGE… [-- OPTIONS OF buildah bud]
#
# BASE: what images/*/Containerfile build on, best with its digest. IMAGE: operator, platform, trainer
# (on the platform image just built); also triton (where BASE is Triton's), which checks itself while
# it is built. Pip's own settings count: a local `find-links` folder is mounted for the build.
#
#   scripts/build_images.sh docker.io/library/python:3.11-slim-bookworm operator platform
#
# Needs buildah, and root to start them.
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# < 2)); then sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
base=$1; shift
images=()
while (($#)) && [[ $1 != -- ]]; do images+=("$1"); shift; done
[[ ${1:-} == -- ]] && shift
for image in "${images[@]}"; do
  [[ -f images/$image/Containerfile ]] || { echo "there is no images/$image/Containerfile" >&2; exit 2; }
done

sha=$(git rev-parse HEAD 2>/dev/null || echo unknown)
tag=${TAG:-0.1.0}
options=(--format oci --build-arg "CODE_SHA=$sha" "$@")
links=${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}
[[ -d $links ]] && options+=(-v "$links:$links:ro" --build-arg "PIP_FIND_LINKS=$links")

# Runs a command in the image's root, which cannot be written to; /tmp can.
start() {
  local image=$1; shift
  local container root status=0
  container=$(buildah from --pull-never "$image")
  root=$(buildah mount "$container")
  mapfile -t env < <(buildah inspect --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$container" | grep '=')
  # shellcheck disable=SC2016  # the inner shell expands them
  timeout 120 unshare --mount --pid --fork sh -c '
    root=$1; shift
    mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" &&
    mount -t proc proc "$root/proc" && mount -t tmpfs tmpfs "$root/tmp" &&
    mount --rbind /dev "$root/dev" && cd / &&
    exec env -i "$@"' - "$root" "${env[@]}" /usr/sbin/chroot --userspec=10001:10001 "$root" "$@" || status=$?
  buildah umount "$container" >/dev/null
  buildah rm "$container" >/dev/null
  return "$status"
}

for image in "${images[@]}"; do
  name=zeroskew-$image:$tag
  echo "== building $name"
  case $image in
    trainer) on=(--build-arg "PLATFORM=${PLATFORM:-zeroskew-platform:$tag}") ;;
    *) on=(--build-arg "BASE=$base") ;;
  esac
  buildah bud "${options[@]}" "${on[@]}" -t "$name" -f "images/$image/Containerfile" .
  read -r size < <(buildah images --format '{{.Size}}' "$name")
  echo "== $name is built: $size"
  case $image in
    operator)
      # Without an address of MLflow it says what is missing, and ends with 2.
      said=$(start "$name" python -m operators 2>&1) && status=0 || status=$?
      echo "$said"
      [[ $status == 2 && $said == *ZEROSKEW_MLFLOW* ]] || { echo "the operator did not start" >&2; exit 1; } ;;
    platform)
      start "$name" python -c '
import importlib.util, os
import boto3, feast.infra.registry.s3, mlflow, onnxruntime, pipelines.run, ray.util.client
assert importlib.util.find_spec("torch") is None
assert os.getuid() == 10001
try:
    open("/opt/zeroskew/x", "w")
except OSError as error:
    print("the root cannot be written to:", error)
else:
    raise SystemExit("the root can be written to")
open("/tmp/x", "w").close()
print("as user", os.getuid())'
      start "$name" mlflow --version ;;
    trainer)
      start "$name" python -c '
import evidently, onnxscript, ray.train.torch, ray.tune, torch, zeroskew.training.train
print("torch", torch.__version__, "CUDA", torch.version.cuda)'
      start "$name" ray --version ;;
  esac
  [[ $image != triton ]] && echo "== $name started as user 10001 on a read-only root"
done
