{{/*
gpu-inference.job.pod is what every pod that is no server has in common. Takes {root, security}; the spec's `security`.
*/}}
{{- define "gpu-inference.job.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{ template "gpu-inference.security.pod" .security }}
{{- end }}

{{/*
gpu-inference.job.small: resources and security of a container that only waits, copies or runs a shell. Takes {security}.
*/}}
{{- define "gpu-inference.job.small" -}}
resources:
  requests: {cpu: 10m, memory: 32Mi, ephemeral-storage: 16Mi}
  limits: {cpu: 100m, memory: 64Mi, ephemeral-storage: 16Mi}
securityContext: {{ template "gpu-inference.security.container" .security }}
{{- end }}

{{/*
gpu-inference.job.labels of an object that is no server's. Takes {root, component}.
*/}}
{{- define "gpu-inference.job.labels" -}}
app.kubernetes.io/name: gpu-inference
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/*
gpu-inference.job.image of the values' `images`, where everything that is no model's is pinned. Takes {root, name}.
*/}}
{{- define "gpu-inference.job.image" -}}
{{- $image := index .root.Values.images .name }}
image: {{ include "gpu-inference.container.image" $image | toJson }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end }}

{{/*
gpu-inference.job.claim and .path of pvc://claim/path, a source that a pod mounts at /models; empty for others.
*/}}
{{- define "gpu-inference.job.claim" -}}
{{- if hasPrefix "pvc://" . }}{{ trimPrefix "pvc://" . | splitList "/" | first }}{{ end }}
{{- end }}

{{- define "gpu-inference.job.path" -}}
{{- with include "gpu-inference.job.claim" . }}{{ print "/models" (trimPrefix (print "pvc://" .) $) | trimSuffix "/" }}{{ end }}
{{- end }}
