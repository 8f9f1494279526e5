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
{{- $preferred := get . "preferredNodeLabels" }}
{{- if or .absentNodeLabels $preferred }}
affinity:
  nodeAffinity:
    {{- with .absentNodeLabels }}
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            {{- range $label, $_ := . }}
            - {key: {{ $label }}, operator: DoesNotExist}
            {{- end }}
    {{- end }}
    {{- with $preferred }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        preference:
          matchExpressions:
            {{- range $label, $value := . }}
            - {key: {{ $label }}, operator: In, values: [{{ toJson $value }}]}
            {{- end }}
    {{- end }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- range . }}
  - {{ toJson . }}
  {{- end }}
{{- end }}
{{- end }}
