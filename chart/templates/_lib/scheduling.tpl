{{/*
gpu-inference.scheduling.nodes: which nodes a pod may run on. Takes a spec.
*/}}
{{- define "gpu-inference.scheduling.nodes" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- range $label, $value := . }}
  {{ $label }}: {{ toJson $value }}
  {{- end }}
{{- end }}
{{- with .absentNodeLabels }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            {{- range $label, $_ := . }}
            - {key: {{ $label }}, operator: DoesNotExist}
            {{- end }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- range . }}
  - {{ toJson . }}
  {{- end }}
{{- end }}
{{- end }}
