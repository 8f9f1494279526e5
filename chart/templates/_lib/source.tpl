{{/*
gpu-inference.source.reference is what the server is told to load, for a model.source; empty when its scheme is unknown.
*/}}
{{- define "gpu-inference.source.reference" -}}
{{- if hasPrefix "hf://" . }}
  {{- trimPrefix "hf://" . }}
{{- else if hasPrefix "pvc://" . }}
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
