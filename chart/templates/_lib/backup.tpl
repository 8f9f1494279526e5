{{/*
gpu-inference.backup.claims are the claims to copy, in order, as JSON: backup.claims or, without any, those that models and engines
lie on. Takes the root context.
*/}}
{{- define "gpu-inference.backup.claims" -}}
{{- $claims := .Values.backup.claims }}
{{- if not $claims }}
  {{- range .resolved.models }}
    {{- with include "gpu-inference.source.claim" .spec.model.source }}{{ $claims = append $claims . }}{{ end }}
  {{- end }}
  {{- range .resolved.engines }}
    {{- $claims = append $claims (include "gpu-inference.engine.claim" .) }}
    {{- with include "gpu-inference.source.claim" .spec.engine.source }}{{ $claims = append $claims . }}{{ end }}
  {{- end }}
{{- end }}
{{- $claims | uniq | sortAlpha | toJson }}
{{- end }}

{{/*
gpu-inference.backup.remote is backup.destination as rclone writes it: a remote that takes all its settings from RCLONE_<TYPE>_*.
*/}}
{{- define "gpu-inference.backup.remote" -}}
{{- $parts := splitList "://" .Values.backup.destination }}
{{- printf ":%s:%s" (get (dict "s3" "s3" "gs" "gcs" "az" "azureblob") (first $parts)) (last $parts | trimSuffix "/") }}
{{- end }}

{{/*
gpu-inference.backup.env: where credentials come from, then backup.env over it.
*/}}
{{- define "gpu-inference.backup.env" -}}
{{- $env := dict "RCLONE_CONFIG" "/tmp/rclone.conf" "RCLONE_S3_PROVIDER" "AWS"
    "RCLONE_S3_ENV_AUTH" "true" "RCLONE_GCS_ENV_AUTH" "true" "RCLONE_AZUREBLOB_ENV_AUTH" "true"
    "REMOTE" (include "gpu-inference.backup.remote" .) "KEEP_DAYS" (.Values.backup.keepDays | int64 | toString) }}
{{- range $name, $value := .Values.backup.env }}{{- $_ := set $env $name $value }}{{ end }}
{{- range $name, $value := $env }}
- {name: {{ $name }}, value: {{ toJson $value }}}
{{- end }}
{{- end }}

{{/*
gpu-inference.backup.container: resources and security. rclone's buffers are some 16 MiB for each of four transfers, more with S3.
*/}}
{{- define "gpu-inference.backup.container" -}}
resources:
  requests: {cpu: 250m, memory: 256Mi, ephemeral-storage: 320Mi}
  limits: {cpu: "2", memory: 1Gi, ephemeral-storage: 320Mi}
securityContext:
  {{- include "gpu-inference.security.container" .Values.modelDefaults.security | nindent 2 }}
{{- end }}
