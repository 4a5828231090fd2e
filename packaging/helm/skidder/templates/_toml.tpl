{{/*
YAML as TOML. Helm's own `toToml` writes whole numbers as 262144.0, since all numbers that come from YAML are floats to it.
*/}}
{{- define "skidder.toml" -}}
{{- $table := .table }}{{ $path := .path }}
{{- range $key, $value := $table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "skidder.tomlKey" $key }} = {{ include "skidder.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := $table }}
{{- if kindIs "map" $value }}
{{- $below := append $path (include "skidder.tomlKey" $key) }}
{{- $own := false }}
{{- range $value }}{{ if not (kindIs "map" .) }}{{ $own = true }}{{ end }}{{ end }}
{{- if or $own (not $value) }}

[{{ join "." $below }}]
{{- end }}
{{- include "skidder.toml" (dict "table" $value "path" $below) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "skidder.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end }}
{{- end }}

{{- define "skidder.tomlValue" -}}
{{- if kindIs "slice" . }}
{{- $values := list }}
{{- range . }}{{ $values = append $values (include "skidder.tomlValue" .) }}{{ end -}}
[{{ join ", " $values }}]
{{- else if kindIs "map" . }}
{{- $members := list }}
{{- range $key, $value := . }}{{ $members = append $members (printf "%s = %s" (include "skidder.tomlKey" $key) (include "skidder.tomlValue" $value)) }}{{ end -}}
{ {{- join ", " $members -}} }
{{- else if and (kindIs "float64" .) (eq (floor .) .) }}
{{- int64 . }}
{{- else }}
{{- toRawJson . }}
{{- end }}
{{- end }}
