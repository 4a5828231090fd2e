{{- define "skidder.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "skidder.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "skidder.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "skidder.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "skidder.selectorLabels" -}}
app.kubernetes.io/name: {{ include "skidder.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.role }}
{{- end }}

{{- define "skidder.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "skidder.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "skidder.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "skidder.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "skidder.image" -}}
{{- if .Values.image.sha }}
{{- printf "%s@sha256:%s" .Values.image.repository (trimPrefix "sha256:" .Values.image.sha) }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "skidder.address" -}}
{{- printf "0.0.0.0:%v" .Values.api.port }}
{{- end }}

{{/* The configuration file. */}}
{{- define "skidder.config" -}}
{{- if kindIs "string" .Values.customConfig }}
{{- .Values.customConfig }}
{{- else if .Values.customConfig }}
{{- $api := merge (deepCopy (default dict .Values.customConfig.api)) (dict "address" (include "skidder.address" .)) }}
{{- $whole := merge (dict "api" $api) (deepCopy .Values.customConfig) (dict "data_dir" .Values.dataDir) }}
{{- include "skidder.toml" (dict "table" $whole "path" list) | trim }}
{{- else }}
{{- include "skidder.defaultConfig" . }}
{{- end }}
{{- end }}

{{/*
What the agent may ask the API server for, as JSON: `asks` (anything at all), `kubelet`, `node`, `namespaces`. Of a
configuration in a ConfigMap that is not ours nothing is known, so it gets what the default needs.
*/}}
{{- define "skidder.needs" -}}
{{- $config := dict }}
{{- if not .Values.existingConfigMaps }}
{{- $config = include "skidder.config" . | fromToml }}
{{- end }}
{{- $kubernetes := default dict $config.kubernetes }}
{{- $from := default "auto" $kubernetes.metadata }}
{{- $asks := ne $from "none" }}
{{- $node := and $asks (not (and (hasKey $kubernetes "node_labels") (or (eq (toString $kubernetes.node_labels) "none") (empty $kubernetes.node_labels)))) }}
{{- $namespaces := and $asks (not (empty $kubernetes.namespace_labels)) (ne (toString $kubernetes.namespace_labels) "none") }}
{{- dict "asks" $asks "kubelet" (eq $from "kubelet") "node" $node "namespaces" $namespaces | toJson }}
{{- end }}

{{/* Refuses what would be installed and could not work. */}}
{{- define "skidder.check" -}}
{{- if not .Values.existingConfigMaps }}
{{- $config := include "skidder.config" . | fromToml }}
{{- if hasKey $config "Error" }}
{{- fail (printf "customConfig is no TOML: %s" $config.Error) }}
{{- end }}
{{- $dir := toString $config.data_dir }}
{{- if and (ne (trimSuffix "/" $dir) (trimSuffix "/" .Values.dataDir)) (not (contains "${" $dir)) }}
{{- fail (printf "customConfig: data_dir must be %q (the value dataDir), where the state outlives the pod; it is %q" .Values.dataDir $dir) }}
{{- end }}
{{- $api := default dict $config.api }}
{{- $address := toString (default "127.0.0.1:8686" $api.address) }}
{{- $open := and (hasSuffix (printf ":%v" .Values.api.port) $address) (not (hasPrefix "127." $address)) (not (hasPrefix "[::1]" $address)) }}
{{- if and (or .Values.livenessProbe .Values.readinessProbe .Values.startupProbe) (not (contains "${" $address)) (or (not $open) (eq (toString $api.enabled) "false")) }}
{{- fail (printf "customConfig: kubelet's probes cannot reach the endpoint: write `address = %q` below `[api]`" (include "skidder.address" .)) }}
{{- end }}
{{- end }}
{{- end }}
