{{/*
gpu-inference.quantity.mib turns a quantity in Mi, Gi or Ti into whole MiB; 0 for anything else.
*/}}
{{- define "gpu-inference.quantity.mib" -}}
{{- if hasSuffix "Gi" . }}{{ mulf (trimSuffix "Gi" .) 1024 | int64 }}
{{- else if hasSuffix "Mi" . }}{{ trimSuffix "Mi" . | int64 }}
{{- else if hasSuffix "Ti" . }}{{ mulf (trimSuffix "Ti" .) 1048576 | int64 }}
{{- else }}0{{ end }}
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
{{- $milli := mulf .cores .count 1000 | int64 }}
{{- if mod $milli 1000 }}{{ $milli }}m{{ else }}{{ div $milli 1000 | toString | toJson }}{{ end }}
{{- end }}
