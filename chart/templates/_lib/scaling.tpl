{{/*
gpu-inference.scaling.behavior writes both directions of autoscaling.behavior as they are, but numbers as integers.
*/}}
{{- define "gpu-inference.scaling.behavior" -}}
{{- range $direction, $rules := . }}
{{ $direction }}:
  {{- range $key, $value := $rules }}
  {{- if kindIs "slice" $value }}
  {{ $key }}:
    {{- range $value }}
    - {type: {{ .type }}, value: {{ int64 .value }}, periodSeconds: {{ int64 .periodSeconds }}}
    {{- end }}
  {{- else }}
  {{ $key }}: {{ toJson $value }}
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}
