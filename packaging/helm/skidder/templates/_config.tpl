{{/* The chart's own pipeline. */}}
{{- define "skidder.defaultConfig" -}}
# The chart's own pipeline; the value `customConfig` takes its place.
data_dir = {{ .Values.dataDir | quote }}
# No record reaches a store that has not passed a `redact`.
require_redaction = true

[api]
address = {{ include "skidder.address" . | quote }}

[sources.pods]
type = "kubernetes_logs"
{{- if .Values.docker.enabled }}
docker_root = {{ .Values.docker.path | quote }}
{{- end }}

[transforms.parse]
type = "json"
inputs = ["pods"]

[transforms.meta]
type = "enrich"
inputs = ["parse"]

[transforms.meta.fields]
env = {{ printf "{{ kubernetes.pod_labels.env ?? kubernetes.pod_labels.environment ?? %q }}" .Values.defaults.env | squote }}
pod_name = '{{ "{{ kubernetes.pod_name }}" }}'
region = {{ printf "{{ kubernetes.node_labels.\"topology.kubernetes.io/region\" ?? kubernetes.node_labels.\"failure-domain.beta.kubernetes.io/region\" ?? %q }}" .Values.defaults.region | squote }}

[transforms.clean]
type = "redact"
inputs = ["meta"]
{{- if .Values.elasticsearch.endpoints }}

[sinks.store]
type = "elasticsearch"
inputs = ["clean"]
endpoints = {{ .Values.elasticsearch.endpoints | toJson }}
index = {{ .Values.elasticsearch.index | quote }}
{{- if .Values.elasticsearch.existingSecret }}

[sinks.store.auth]
strategy = "basic"
user = "${SKIDDER_STORE_USER}"
password = "${SKIDDER_STORE_PASSWORD}"
{{- end }}
{{- else }}

# For a first look: `kubectl logs`. Set `elasticsearch.endpoints`, or write a `customConfig`.
[sinks.screen]
type = "console"
inputs = ["clean"]
{{- end }}
{{- end }}
