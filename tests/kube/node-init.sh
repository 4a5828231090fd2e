#!/bin/bash
# pid 1 of the node's namespaces (start.sh node): mounts, cgroups, addresses, then every component.
set -euo pipefail
cd "$(dirname "$0")"; . ./lib.sh
touch "$RUN/netns-wanted"

# mounts: kubelet wants shared propagation; nothing here reaches the host's mount namespace
mount --make-rshared /
# cgroup v1 controllers as this cgroup namespace sees them, so our root is the cgroup we were started in
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
  ctls=$(awk '$2 ~ "^/sys/fs/cgroup/" && $3 == "cgroup" {print $2}' /proc/mounts | xargs -n1 basename | sort -u)
  umount -R /sys/fs/cgroup 2>/dev/null || true
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  for c in $ctls; do
    mkdir /sys/fs/cgroup/$c
    o=$c; [ $c = systemd ] && o=none,name=systemd
    mount -t cgroup -o "$o" cgroup /sys/fs/cgroup/$c
  done
fi
hostname "$NODE_NAME"
mkdir -p /var/log/pods /var/log/containers

# addresses
ip link set lo up
ip addr add $SVC_VIP/32 dev lo            # the 'kubernetes' service without kube-proxy
until [ -e "$RUN/netns-ready" ]; do sleep 0.05; done
ip link set kn-node name eth0; ip addr add $NODE_IP/24 dev eth0; ip link set eth0 up
ip route add default via $HOST_IP
echo 1 > /proc/sys/net/ipv4/ip_forward

control_plane 0.0.0.0 443 2379 --advertise-address=$NODE_IP --kubelet-preferred-address-types=InternalIP
for c in kcm scheduler kubelet; do kubeconfig "$RUN/$c.kubeconfig" https://$SVC_VIP:443 $c-token "$RUN/pki/ca.crt"; done

# containerd
mkdir -p "$RUN/cni" "$RUN/containerd"
cat > "$RUN/cni/10-pods.conflist" <<T
{"cniVersion":"1.0.0","name":"pods","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,
  "ipam":{"type":"host-local","ranges":[[{"subnet":"$POD_CIDR"}]],"routes":[{"dst":"0.0.0.0/0"}],"dataDir":"$RUN/cni-ipam"}}]}
T
cat > "$RUN/containerd.toml" <<T
version = 2
root = "$RUN/containerd/root"
state = "$RUN/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs","io.containerd.snapshotter.v1.zfs","io.containerd.snapshotter.v1.devmapper","io.containerd.snapshotter.v1.aufs","io.containerd.tracing.processor.v1.otlp","io.containerd.internal.v1.tracing"]
[grpc]
  address = "$RUN/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true   # we lack CAP_SYS_RESOURCE here
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
T
spawn containerd containerd --config "$RUN/containerd.toml"
until ctr --address "$RUN/containerd.sock" version >/dev/null 2>&1; do sleep 0.1; done
for i in "$IMAGES"/*.tar; do ctr --address "$RUN/containerd.sock" -n k8s.io images import "$i"; done

# kubelet
cat > "$RUN/kubelet.yaml" <<T
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://$RUN/containerd.sock
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
makeIPTablesUtilChains: false
clusterDNS: [10.96.0.10]   # nothing answers there: pods use KUBERNETES_SERVICE_HOST
clusterDomain: cluster.local
resolvConf: $RUN/resolv.conf
containerLogMaxSize: ${LOG_MAX_SIZE:-64Ki}
containerLogMaxFiles: ${LOG_MAX_FILES:-3}
containerLogMonitorInterval: 3s
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%", memory.available: "1Mi"}
syncFrequency: 10s
fileCheckFrequency: 5s
nodeStatusUpdateFrequency: 5s
shutdownGracePeriod: 0s
T
: > "$RUN/resolv.conf"
wait_ready https://$SVC_VIP:443 "$RUN/pki/ca.crt" 300
spawn kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig="$RUN/kcm.kubeconfig" --leader-elect=false \
  --use-service-account-credentials=true --service-account-private-key-file="$RUN/pki/sa.key" --root-ca-file="$RUN/pki/ca.crt" \
  --cluster-cidr=$POD_CIDR --allocate-node-cidrs=false --bind-address=127.0.0.1
spawn kube-scheduler "$BIN/kube-scheduler" --kubeconfig="$RUN/scheduler.kubeconfig" --leader-elect=false --bind-address=127.0.0.1
spawn kubelet "$BIN/kubelet" --config="$RUN/kubelet.yaml" --kubeconfig="$RUN/kubelet.kubeconfig" --root-dir="$RUN/kubelet" \
  --cert-dir="$RUN/kubelet-pki" --hostname-override="$NODE_NAME" --node-ip=$NODE_IP \
  --node-labels=topology.kubernetes.io/region=eu-1,topology.kubernetes.io/zone=eu-1a
set +e
while :; do wait -n 2>/dev/null || sleep 1; done   # pid 1: bash reaps what it adopts
