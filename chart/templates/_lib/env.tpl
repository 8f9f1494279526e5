{{/*
gpu-inference.env.list renders the environment: what the chart knows, then the spec's env over it, each name once.
*/}}
{{- define "gpu-inference.env.list" }}
{{- $of := list .values.env (or .folder (and .engine (not .fetch)) | not) (not .fetch) .spec.model.tokenSecret .spec.runtimeVersion }}
{{- range .runtime.env }}{{- $of = append $of (index $.spec .section .field) }}{{ end }}
{{- template "gpu-inference.once.text" (dict "m" . "name" "gpu-inference.env.text" "of" $of) }}
{{- end }}

{{- define "gpu-inference.env.text" }}
{{- $s := .spec }}
{{- $env := dict }}
{{- $empty := list (toJson "") "false" }}
{{- if or .folder (and .engine (not .fetch)) }}
  {{- /* All is there: the server gets no token, and does not look for more. */}}
  {{- range $name, $value := .runtime.offlineEnv }}{{- $_ := set $env $name $value }}{{ end }}
{{- else }}
  {{- if .fetch }}{{- $_ := set $env "HF_HOME" "/cache/huggingface" }}{{ end }}
  {{- with $s.model.tokenSecret }}{{- $_ := set $env "HF_TOKEN" (dict "secretKeyRef" .) }}{{ end }}
{{- end }}
{{- range $name, $from := .runtime.env }}
  {{- /* Left out as arguments are: unset, empty, false, or of another version. */}}
  {{- $value := get (index $s $from.section) $from.field }}
  {{- if not (has (toJson $value) $empty) }}
    {{- if or (not $from.bounded) (include "gpu-inference.args.applies" (dict "arg" $from "version" $s.runtimeVersion)) }}
      {{- $_ := set $env $name $value }}
    {{- end }}
  {{- end }}
{{- end }}
{{- range $name, $value := $s.env }}{{- $_ := set $env $name $value }}{{ end }}
{{- range $name, $value := $env }}
  {{- if kindIs "map" $value }}
            - {name: {{ $name }}, valueFrom: {{ toJson $value }}}
  {{- else }}
            - {name: {{ $name }}, value: {{ if kindIs "string" $value }}{{ toJson $value }}{{ else }}{{ toJson $value | quote }}{{ end }}}
  {{- end }}
{{- end }}
{{- end }}
