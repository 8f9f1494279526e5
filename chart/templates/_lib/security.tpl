{{/*
gpu-inference.security.pod and .container: Pod Security "restricted", in a line that needs no place of its own. Without
fsGroupChangePolicy, a claim with many files would be walked at every start.
*/}}
{{- define "gpu-inference.security.pod" -}}
{runAsNonRoot: true, runAsUser: {{ int64 .runAsUser }}, runAsGroup: {{ int64 .runAsGroup }}, fsGroup: {{ int64 .fsGroup }}, fsGroupChangePolicy: OnRootMismatch, seccompProfile: {type: RuntimeDefault}}
{{- end }}

{{- define "gpu-inference.security.container" -}}
{allowPrivilegeEscalation: false, readOnlyRootFilesystem: {{ .readOnlyRootFilesystem }}, capabilities: {drop: [ALL]}}
{{- end }}
