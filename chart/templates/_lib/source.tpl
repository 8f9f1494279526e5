{{/*
gpu-inference.source.repository is what the server itself downloads, for a model.source; empty when it does not.
*/}}
{{- define "gpu-inference.source.repository" -}}
{{- if hasPrefix "hf://" . }}{{ trimPrefix "hf://" . }}{{ end }}
{{- end }}

{{/*
gpu-inference.source.path is where the model lies in the container; empty when it is not mounted there.
*/}}
{{- define "gpu-inference.source.path" -}}
{{- if hasPrefix "pvc://" . }}
  {{- $claim := include "gpu-inference.source.claim" . }}
  {{- print "/models" (trimPrefix (print "pvc://" $claim) .) | trimSuffix "/" }}
{{- end }}
{{- end }}

{{/*
gpu-inference.source.claim is the persistent volume claim of a pvc:// source, empty for others.
*/}}
{{- define "gpu-inference.source.claim" -}}
{{- if hasPrefix "pvc://" . }}{{ trimPrefix "pvc://" . | splitList "/" | first }}{{ end }}
{{- end }}
