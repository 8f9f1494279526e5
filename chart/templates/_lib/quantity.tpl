{{/*
gpu-inference.quantity.mib turns a quantity in Mi, Gi or Ti into whole MiB. The schema lets nothing else through.
Takes {store, of}; the store keeps the answers, for models are alike.
*/}}
{{- define "gpu-inference.quantity.mib" -}}
{{- if not (hasKey .store.mib .of) }}
  {{- $number := .of | trimSuffix "i" | trimAll "MGT" }}
  {{- $unit := index (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (trimPrefix $number .of) }}
  {{- $_ := set .store.mib .of (mulf $number $unit | int64) }}
{{- end }}
{{- index .store.mib .of }}
{{- end }}

{{/*
gpu-inference.quantity.memory writes whole MiB as a quantity.
*/}}
{{- define "gpu-inference.quantity.memory" -}}
{{- if mod . 1024 }}{{ . }}Mi{{ else }}{{ div . 1024 }}Gi{{ end }}
{{- end }}

{{/*
gpu-inference.quantity.cpu is a number of cores times a number of GPUs. Takes {cores, count}.
*/}}
{{- define "gpu-inference.quantity.cpu" -}}
{{- $cores := toString .cores }}
{{- if contains "." $cores }}{{ mulf $cores .count 1000 | int64 }}m{{ else }}{{ mul $cores .count | toString | toJson }}{{ end }}
{{- end }}
