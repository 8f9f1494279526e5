{{/*
gpu-inference.container.spec is the server's container; `container` of the values is merged over it last.
*/}}
{{- define "gpu-inference.container.spec" -}}
{{- $text := include "gpu-inference.container.text" . }}
{{- if .spec.container }}
  {{- mustMergeOverwrite (fromYaml $text) (deepCopy .spec.container) | toYaml }}
{{- else }}
  {{- $text }}
{{- end }}
{{- end }}

{{- define "gpu-inference.container.text" -}}
name: server
image: {{ include "gpu-inference.container.image" .spec.image | toJson }}
imagePullPolicy: {{ .spec.image.pullPolicy }}
{{- with .runtime.command }}
command: {{ toJson . }}
{{- end }}
args:
  {{- include "gpu-inference.args.list" . | trim | nindent 2 }}
env:
  {{- include "gpu-inference.env.list" . | trim | nindent 2 }}
ports:
  {{- range $name, $port := .runtime.ports }}
  - {name: {{ $name }}, containerPort: {{ int64 $port }}, protocol: TCP}
  {{- end }}
{{- include "gpu-inference.probes.all" . }}
{{- with int64 .spec.drain.preStopSeconds }}
lifecycle:
  preStop:
    sleep: {seconds: {{ . }}}
{{- end }}
resources:
  {{- include "gpu-inference.resources.container" . | trim | nindent 2 }}
securityContext:
  {{- include "gpu-inference.security.container" .spec.security | nindent 2 }}
volumeMounts:
  {{- include "gpu-inference.volumes.container" . | trim | nindent 2 }}
{{- end }}

{{/*
gpu-inference.container.image: repository, then tag and digest where they are set.
*/}}
{{- define "gpu-inference.container.image" -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
