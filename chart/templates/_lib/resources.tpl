{{/*
gpu-inference.resources.container: per-GPU figures times the number of GPUs. /dev/shm counts as the container's memory,
and GPUs and disk cannot be overcommitted.
*/}}
{{- define "gpu-inference.resources.container" -}}
{{- $m := . }}
{{- $count := int64 .spec.accelerator.count }}
{{- $shm := include "gpu-inference.quantity.mib" .spec.shm.sizeLimit }}
{{- $disk := include "gpu-inference.quantity.memory" .disk.total }}
{{- range list "requests" "limits" }}
{{ . }}:
  cpu: {{ include "gpu-inference.quantity.cpu" (dict "cores" (index $m.spec.resources.cpu .) "count" $count) }}
  memory: {{ include "gpu-inference.quantity.memory" (add (mul (include "gpu-inference.quantity.mib" (index $m.spec.resources.memory .)) $count) $shm) }}
  ephemeral-storage: {{ $disk }}
  {{ $m.accelerator.resource }}: {{ $count }}
{{- end }}
{{- end }}
