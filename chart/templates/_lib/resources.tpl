{{/*
gpu-inference.resources.sizes sets .sizes, in MiB: requests and limits of memory; cache, the disk for downloaded weights; disk,
all that a pod may write to its node's disk, with 1 GiB for logs. Figures per GPU are multiplied; /dev/shm counts as memory.
*/}}
{{- define "gpu-inference.resources.sizes" -}}
{{- $s := .spec }}
{{- $memory := $s.resources.memory }}
{{- $cache := $s.storage.cache.sizeLimit }}
{{- $quantities := list $memory.requests $memory.limits $s.shm.sizeLimit $cache }}
{{- range $s.writable }}{{ with .sizeLimit }}{{ $quantities = append $quantities . }}{{ end }}{{ end }}
{{- /* Few differ between models: each is read once. */}}
{{- $mib := .store.mib }}
{{- range $quantities }}
  {{- if not (hasKey $mib .) }}{{- $_ := set $mib . (include "gpu-inference.quantity.mib" . | int64) }}{{ end }}
{{- end }}
{{- $count := int64 $s.accelerator.count }}
{{- $shm := index $mib $s.shm.sizeLimit }}
{{- $weights := 0 }}
{{- if .scratch }}{{ $weights = mul (index $mib $cache) $count }}{{ end }}
{{- $disk := add $weights 1024 }}
{{- range $s.writable }}{{ with .sizeLimit }}{{ $disk = add $disk (index $mib .) }}{{ end }}{{ end }}
{{- $requests := add (mul (index $mib $memory.requests) $count) $shm }}
{{- $limits := add (mul (index $mib $memory.limits) $count) $shm }}
{{- $_ := set . "sizes" (dict "requests" $requests "limits" $limits "cache" $weights "disk" $disk) }}
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
              cpu: {{ template "gpu-inference.quantity.cpu" (dict "cores" (index $m.spec.resources.cpu .) "count" $count) }}
              memory: {{ template "gpu-inference.quantity.memory" (index $m.sizes .) }}
              ephemeral-storage: {{ $disk }}
              {{- with $m.spec.accelerator.resource }}
              {{ . }}: {{ $count }}
              {{- end }}
{{- end }}
{{- if .claim }}
            claims: [{name: gpu}]
{{- end }}
{{- end }}
