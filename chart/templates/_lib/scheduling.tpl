{{/*
gpu-inference.scheduling.nodes: which nodes a pod may run on.
*/}}
{{- define "gpu-inference.scheduling.nodes" -}}
{{- $s := .spec }}
{{- with $s.nodeSelector }}
nodeSelector:
  {{- range $label, $value := . }}
  {{ $label }}: {{ toJson $value }}
  {{- end }}
{{- end }}
{{- with $s.absentNodeLabels }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            {{- range $label, $_ := . }}
            - {key: {{ $label }}, operator: DoesNotExist}
            {{- end }}
{{- end }}
{{- with $s.tolerations }}
tolerations:
  {{- range . }}
  - {{ toJson . }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.scheduling.spread: replicas go to different nodes where they can.
*/}}
{{- define "gpu-inference.scheduling.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- .selector | nindent 8 }}
{{- end }}
