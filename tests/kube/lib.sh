# Shared by the scripts here; sourced, not run.
KHOME=${KHOME:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}
BIN=${KBIN:-${XDG_CACHE_HOME:-$HOME/.cache}/kubetest/bin}
RUN=${KRUN:-${XDG_CACHE_HOME:-$HOME/.cache}/kubetest/run}
IMAGES=${KIMAGES:-$(dirname "$BIN")/images}   # archives, imported at the start of a node
NODE_NAME=${NODE_NAME:-node-a}
# node mode: one veth pair, all addresses live in the node's own network namespace
HOST_IP=10.123.0.1
NODE_IP=10.123.0.2
SVC_CIDR=10.96.0.0/24
SVC_VIP=10.96.0.1
POD_CIDR=10.124.0.0/24

log() { echo "[$(date +%T)] $*" >&2; }

# pki DIR IP...: a CA, one serving certificate, a service-account key, tokens
pki() {
  local d=$1 san=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc ip; shift
  for ip in "$@"; do san=$san,IP:$ip; done
  mkdir -p "$d"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=test-ca \
    -keyout "$d/ca.key" -out "$d/ca.crt" 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=kube-apiserver \
    -keyout "$d/apiserver.key" -out "$d/apiserver.csr" 2>/dev/null
  openssl x509 -req -in "$d/apiserver.csr" -CA "$d/ca.crt" -CAkey "$d/ca.key" -CAcreateserial -days 365 \
    -extfile <(echo "subjectAltName=$san"; echo extendedKeyUsage=serverAuth) -out "$d/apiserver.crt" 2>/dev/null
  openssl genrsa -out "$d/sa.key" 2048 2>/dev/null
  cat > "$d/tokens.csv" <<T
admin-token,admin,1,"system:masters"
kcm-token,system:kube-controller-manager,2
scheduler-token,system:kube-scheduler,3
kubelet-token,system:node:$NODE_NAME,4,"system:nodes"
nobody-token,nobody,5
T
  [ -z "${EXTRA_TOKENS:-}" ] || printf '%s\n' "$EXTRA_TOKENS" >> "$d/tokens.csv"
}

# kubeconfig FILE SERVER TOKEN CA
kubeconfig() {
  cat > "$1" <<T
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "$2", certificate-authority: "$4"}}]
users: [{name: u, user: {token: "$3"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
T
}

# spawn NAME CMD...: in the background, log and pid in $RUN
spawn() {
  local n=$1; shift
  printf '%q ' "$@" > "$RUN/$n.cmd"
  nice -n 5 setsid "$@" >> "$RUN/$n.log" 2>&1 < /dev/null &
  echo $! > "$RUN/$n.pid"
}

# control_plane LISTEN API_PORT ETCD_PORT [extra apiserver flags]
control_plane() {
  local listen=$1 port=$2 ep=$3; shift 3
  # Who asked for what, one line of JSON a request: the server's own account, which tests count.
  cat > "$RUN/audit-policy.yaml" <<T
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:apiserver"]}
- {level: Metadata}
T
  spawn etcd "$BIN/etcd" --data-dir "$RUN/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$ep" --advertise-client-urls "http://127.0.0.1:$ep" \
    --listen-peer-urls "http://127.0.0.1:$((ep+1))"
  spawn kube-apiserver "$BIN/kube-apiserver" \
    --etcd-servers="http://127.0.0.1:$ep" --etcd-compaction-interval=0 \
    --bind-address="$listen" --secure-port="$port" --service-cluster-ip-range=$SVC_CIDR \
    --tls-cert-file="$RUN/pki/apiserver.crt" --tls-private-key-file="$RUN/pki/apiserver.key" \
    --token-auth-file="$RUN/pki/tokens.csv" --authorization-mode=Node,RBAC \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$RUN/pki/sa.key" \
    --service-account-signing-key-file="$RUN/pki/sa.key" --allow-privileged=true \
    --audit-policy-file="$RUN/audit-policy.yaml" --audit-log-path="$RUN/audit.log" --audit-log-format=json --audit-log-mode=blocking \
    --profiling=false "$@"
}

# alive NAME: whether what spawn started still runs; yes where that cannot be seen from here: a node has pids of its own
alive() {
  [ ! -e "$RUN/unshare.pid" ] || return 0
  local p; p=$(cat "$RUN/$1.pid" 2>/dev/null) || return 0
  [ -d "/proc/$p" ] && ! grep -q '^State:.Z' "/proc/$p/status" 2>/dev/null
}

# not_ready WHY: says it with the last words of both servers
not_ready() {
  log "the API server is not ready: $1; load $(cut -d' ' -f1-3 /proc/loadavg)"
  for n in etcd kube-apiserver; do
    [ -e "$RUN/$n.log" ] && { echo "--- $n.log"; tail -8 "$RUN/$n.log"; } >&2
  done
  return 1
}

# wait_ready URL CA SECONDS: 5 s on an idle machine. A server that has ended is not waited for
wait_ready() {
  local t0 n; t0=$(date +%s%N)
  until curl -fsS --max-time 10 --cacert "$2" -H 'Authorization: Bearer admin-token' "$1/readyz" >/dev/null 2>&1; do
    for n in etcd kube-apiserver; do alive "$n" || { not_ready "$n ended by itself (a port that another process took meanwhile?)"; return 1; }; done
    [ $(( ($(date +%s%N)-t0)/1000000000 )) -lt "$3" ] || { not_ready "it does not answer within $3 s"; return 1; }
    sleep 0.1
  done
  log "apiserver ready after $(( ($(date +%s%N)-t0)/1000000 )) ms"
}

free_port() { python3 -c 'import socket;s=socket.socket();s.bind(("127.0.0.1",0));print(s.getsockname()[1])'; }

# respawn NAME: kill -9 it and start it again with the same arguments
respawn() {
  kill -9 "$(cat "$RUN/$1.pid")"; local p; p=$(cat "$RUN/$1.pid")
  while [ -d "/proc/$p" ] && ! grep -q '^State:.Z' "/proc/$p/status" 2>/dev/null; do sleep 0.05; done
  eval "set -- $1 $(cat "$RUN/$1.cmd")"; spawn "$@"
}
