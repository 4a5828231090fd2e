#!/bin/bash
# provision.sh [api|node]: what start.sh api|node needs. Idempotent: does nothing that is already there.
#   api   etcd + kube-apiserver + kubectl (openssl, python3 and curl are expected on the machine)
#   node  that, and kubelet, controller-manager, scheduler, containerd, runc, CNI plugins, images
# One multi-call Go binary, built from the Go module k8s.io/kubernetes by k8s/go.mod. Kept under $KBIN.
set -euo pipefail
cd "$(dirname "$0")"; . ./lib.sh
mode=${1:-node}
ver=$(awk '$2 == "k8s.io/kubernetes" {print $3} $1 == "k8s.io/kubernetes" {print $2}' k8s/go.mod | head -1)
x=k8s.io/component-base/version y=k8s.io/client-go/pkg/version minor=$(cut -d. -f2 <<<"$ver")
ld="-s -w -X $x.gitVersion=$ver -X $x.gitMajor=1 -X $x.gitMinor=$minor -X $y.gitVersion=$ver"
mkdir -p "$BIN"
if [ "$mode" = node ]; then
  want="etcd kube-apiserver kubectl kubelet kube-controller-manager kube-scheduler" tags=node
  need=
  for p in containerd runc containernetworking-plugins busybox-static iproute2 gcc libc6-dev openssl; do
    dpkg -s "$p" >/dev/null 2>&1 || need="$need $p"
  done
  if [ -n "$need" ]; then
    apt-get update -qq
    # no service starts: a policy that refuses it, only while we install
    had=; [ -e /usr/sbin/policy-rc.d ] && had=1 || { printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $need >/dev/null
    [ -n "$had" ] || rm -f /usr/sbin/policy-rc.d
  fi
else
  want="etcd kube-apiserver kubectl" tags=api
fi
stamp="$ver $(cat k8s/go.mod k8s/go.sum k8s/cmd/hyperkube/*.go | sha256sum | cut -c1-16)"
if [ "$(cat "$BIN/stamp-$mode" 2>/dev/null)" != "$stamp" ] && [ "$(cat "$BIN/stamp-node" 2>/dev/null)" != "$stamp" ]; then
  log "go build hyperkube $ver ($mode)"
  t0=$(date +%s)
  ( cd k8s && CGO_ENABLED=0 GOFLAGS=-mod=${MOD:-readonly} nice -n 5 go build -trimpath -buildvcs=false -tags "$tags" -ldflags "$ld" -o "$BIN/hyperkube.new" ./cmd/hyperkube )
  mv "$BIN/hyperkube.new" "$BIN/hyperkube"; rm -f "$BIN"/stamp-*; echo "$stamp" > "$BIN/stamp-$mode"
  log "built in $(( $(date +%s)-t0 )) s, $(( $(stat -c %s "$BIN/hyperkube")/1048576 )) MiB"
fi
for c in $want; do ln -sf hyperkube "$BIN/$c"; done
if [ "$mode" = node ]; then IMAGES=$IMAGES bash images/build.sh >/dev/null; fi
log "provisioned ($mode)"
