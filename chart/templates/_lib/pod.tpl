{{/*
gpu-inference.pod.spec is the pod's spec; `pod` of the values is merged over it last.
*/}}
{{- define "gpu-inference.pod.spec" -}}
{{- include "gpu-inference.volumes.disk" . }}
{{- $text := include "gpu-inference.pod.text" . }}
{{- if .spec.pod }}
  {{- mustMergeOverwrite (fromYaml $text) (deepCopy .spec.pod) | toYaml }}
{{- else }}
  {{- $text }}
{{- end }}
{{- end }}

{{- define "gpu-inference.pod.text" -}}
serviceAccountName: {{ include "gpu-inference.pod.serviceAccount" . }}
automountServiceAccountToken: false
{{- /* A Service called like the runtime would inject variables such as VLLM_PORT=tcp://…. */}}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .spec.drain.graceSeconds }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "gpu-inference.security.pod" .spec.security | nindent 2 }}
{{- include "gpu-inference.scheduling.nodes" . }}
{{ include "gpu-inference.scheduling.spread" . }}
containers:
  - {{ include "gpu-inference.container.spec" . | nindent 4 | trim }}
volumes:
  {{- include "gpu-inference.volumes.pod" . | trim | nindent 2 }}
{{- end }}

{{/*
gpu-inference.pod.serviceAccount is the name of the account the pod runs as.
*/}}
{{- define "gpu-inference.pod.serviceAccount" -}}
{{- if .spec.serviceAccount.create }}{{ .fullname }}{{ else }}{{ .spec.serviceAccount.name }}{{ end }}
{{- end }}

{{/*
gpu-inference.pod.annotations: what the tools and Prometheus read, then podAnnotations.
*/}}
{{- define "gpu-inference.pod.annotations" -}}
gpu-inference.io/runtime: {{ .spec.runtime }}
gpu-inference.io/load-seconds: {{ int64 .spec.startup.loadSeconds | toString | toJson }}
{{- if .spec.monitoring.annotations }}
  {{- $metrics := .runtime.metrics }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ index .runtime.ports $metrics.port | int64 | toString | toJson }}
prometheus.io/path: {{ $metrics.path }}
{{- end }}
{{- range $name, $value := .spec.podAnnotations }}
{{ $name }}: {{ toJson $value }}
{{- end }}
{{- end }}
