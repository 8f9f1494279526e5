{{/*
gpu-inference.backup.claims are the claims to copy, in order, as JSON: backup.claims or, without any, those that models and engines
lie on. Takes the root context.
*/}}
{{- define "gpu-inference.backup.claims" -}}
{{- $claims := .Values.backup.claims }}
{{- if not $claims }}
  {{- range .resolved.models }}
    {{- with include "gpu-inference.job.claim" .spec.model.source }}{{ $claims = append $claims . }}{{ end }}
  {{- end }}
  {{- range .resolved.engines }}
    {{- $claims = append $claims (include "gpu-inference.engine.claim" .) }}
    {{- with include "gpu-inference.job.claim" .spec.engine.source }}{{ $claims = append $claims . }}{{ end }}
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
    "REMOTE" (include "gpu-inference.backup.remote" .) "KEEP_DAYS" (.Values.backup.keepDays | int64 | toString)
    "RESTORE" .Values.backup.restore }}
{{- range $name, $value := .Values.backup.env }}{{- $_ := set $env $name $value }}{{ end }}
{{- range $name, $value := $env }}
- {name: {{ $name }}, value: {{ toJson $value }}}
{{- end }}
{{- end }}

{{/*
gpu-inference.backup.metadata of the CronJob, whose name may have 52 characters, and of the Job that restores. Takes {root, name}.
*/}}
{{- define "gpu-inference.backup.metadata" -}}
metadata:
  name: {{ include "gpu-inference.labels.fullname" .root | trunc 44 | trimSuffix "-" }}-{{ .name }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels:
    {{- include "gpu-inference.job.labels" (dict "root" .root "component" "backup") | nindent 4 }}
    {{- include "gpu-inference.labels.release" .root | nindent 4 }}
{{- end }}

{{/*
gpu-inference.backup.pod is the template of a pod that runs one of files/*.sh on the claims. Takes {root, script, readOnly}.
rclone's buffers are some 16 MiB for each of four transfers, more with S3.
*/}}
{{- define "gpu-inference.backup.pod" -}}
{{- $backup := .root.Values.backup }}
{{- $claims := include "gpu-inference.backup.claims" .root | fromJsonArray }}
metadata:
  labels:
    {{- include "gpu-inference.job.labels" (dict "root" .root "component" "backup") | fromYaml | mustMergeOverwrite (deepCopy $backup.podLabels) | toYaml | nindent 4 }}
spec:
  restartPolicy: Never
  {{- include "gpu-inference.job.pod" (dict "root" .root "security" .root.Values.modelDefaults.security) | nindent 2 }}
  {{- with get $backup "serviceAccountName" }}
  serviceAccountName: {{ . }}
  {{- end }}
  containers:
    - name: rclone
      {{- include "gpu-inference.job.image" (dict "root" .root "name" "rclone") | nindent 6 }}
      command: [sh, -c, {{ .root.Files.Get (printf "files/%s.sh" .script) | toJson }}]
      env:
        {{- include "gpu-inference.backup.env" .root | trim | nindent 8 }}
      {{- with get $backup "secretName" }}
      envFrom:
        - secretRef: {name: {{ . }}}
      {{- end }}
      resources:
        requests: {cpu: 250m, memory: 256Mi, ephemeral-storage: 320Mi}
        limits: {cpu: "2", memory: 1Gi, ephemeral-storage: 320Mi}
      securityContext: {{ template "gpu-inference.security.container" .root.Values.modelDefaults.security }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- range $index, $claim := $claims }}
        - {name: claim-{{ $index }}, mountPath: /data/{{ $claim }}, readOnly: {{ $.readOnly }}}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 256Mi}
    {{- range $index, $claim := $claims }}
    - name: claim-{{ $index }}
      persistentVolumeClaim: {claimName: {{ $claim }}, readOnly: {{ $.readOnly }}}
    {{- end }}
{{- end }}
