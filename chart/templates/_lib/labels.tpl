{{/*
gpu-inference.labels.fullname: what all names of a release begin with. Takes the root context.
*/}}
{{- define "gpu-inference.labels.fullname" -}}
{{- with .Values.fullnameOverride }}{{ . }}{{ else }}{{ .Release.Name }}{{ end }}
{{- end }}

{{/*
gpu-inference.labels.selector: literals and names only, they can never change.
*/}}
{{- define "gpu-inference.labels.selector" -}}
app.kubernetes.io/name: gpu-inference
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: server
gpu-inference.io/model: {{ .name }}
{{- end }}

{{/*
gpu-inference.labels.metadata: of every object of a model. Annotations may follow.
*/}}
{{- define "gpu-inference.labels.metadata" -}}
metadata:
  name: {{ .fullname }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels:
    {{- .selector | nindent 4 }}
    {{- .root.resolved.labels }}
{{- end }}

{{/*
gpu-inference.labels.release: on objects, never in a pod template, where they would restart pods.
*/}}
{{- define "gpu-inference.labels.release" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}
