{{/*
gpu-inference.quantity.mib turns a quantity in Mi, Gi or Ti into whole MiB. The schema lets nothing else through.
*/}}
{{- define "gpu-inference.quantity.mib" -}}
{{- $number := . | trimSuffix "i" | trimAll "MGT" }}
{{- $unit := index (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (trimPrefix $number .) }}
{{- mulf $number $unit | int64 }}
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
