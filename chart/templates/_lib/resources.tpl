{{/*
gpu-inference.resources.sizes sets .sizes, in MiB: requests and limits of memory; cache, the disk for downloaded weights; disk,
all that a pod may write to its node's disk, with 1 GiB for logs. Figures per GPU are multiplied; /dev/shm counts as memory.
*/}}
{{- define "gpu-inference.resources.sizes" -}}
{{- $s := .spec }}
{{- $store := .store }}
{{- $count := int64 $s.accelerator.count }}
{{- $shm := include "gpu-inference.quantity.mib" (dict "store" $store "of" $s.shm.sizeLimit) }}
{{- $sizes := dict "cache" 0 }}
{{- range $key, $memory := $s.resources.memory }}
  {{- $_ := set $sizes $key (add (mul (include "gpu-inference.quantity.mib" (dict "store" $store "of" $memory)) $count) $shm) }}
{{- end }}
{{- if hasPrefix "hf://" $s.model.source }}
  {{- $_ := set $sizes "cache" (mul (include "gpu-inference.quantity.mib" (dict "store" $store "of" $s.storage.cache.sizeLimit)) $count) }}
{{- end }}
{{- $disk := add $sizes.cache 1024 }}
{{- range $s.writable }}{{ $disk = add $disk (include "gpu-inference.quantity.mib" (dict "store" $store "of" .sizeLimit)) }}{{ end }}
{{- $_ := set $sizes "disk" $disk }}
{{- $_ := set . "sizes" $sizes }}
{{- end }}

{{/*
gpu-inference.resources.container: neither GPUs nor disk can be overcommitted.
*/}}
{{- define "gpu-inference.resources.container" }}
{{- $m := . }}
{{- $count := int64 .spec.accelerator.count }}
{{- $disk := include "gpu-inference.quantity.memory" .sizes.disk }}
{{- range list "requests" "limits" }}
            {{ . }}:
              cpu: {{ include "gpu-inference.quantity.cpu" (dict "cores" (index $m.spec.resources.cpu .) "count" $count) }}
              memory: {{ include "gpu-inference.quantity.memory" (index $m.sizes .) }}
              ephemeral-storage: {{ $disk }}
              {{ $m.accelerator.resource }}: {{ $count }}
{{- end }}
{{- end }}
