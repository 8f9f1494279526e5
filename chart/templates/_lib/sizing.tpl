{{/*
gpu-inference.sizing.all sets .sizes, and resources and storage of the spec, once for all models that are alike in what says them.
*/}}
{{- define "gpu-inference.sizing.all" -}}
{{- $s := .spec }}
{{- $model := $s.model }}
{{- $own := .values }}
{{- $of := list .base .scratch $model.parametersBillion $model.weightsDtype $own.accelerator $own.resources $own.storage $own.shm $own.writable | toJson }}
{{- if not (hasKey .store.sized $of) }}
  {{- if or .shared (and $model.parametersBillion $model.weightsDtype) }}{{- template "gpu-inference.sizing.derive" . }}{{ end }}
  {{- template "gpu-inference.resources.sizes" . }}
  {{- $_ := set .store.sized $of (dict "resources" $s.resources "storage" $s.storage "sizes" .sizes) }}
{{- end }}
{{- $sized := index .store.sized $of }}
{{- $_ := set $s "resources" $sized.resources }}
{{- $_ := set $s "storage" $sized.storage }}
{{- $_ := set . "sizes" $sized.sizes }}
{{- end }}

{{/*
gpu-inference.sizing.derive: CPU, memory and disk of a model whose size is known, or which has part of a GPU, where neither it nor
the values' accelerator preset says them. Memory and disk are 1.5 times the weights, a GB counted as a GiB; memory is 8 GiB more for
what each process needs besides, and limits are a quarter above requests. Of what an accelerator preset says for a whole
GPU, a part of it gets its share, of two CPUs and 8 GiB at least.
*/}}
{{- define "gpu-inference.sizing.derive" -}}
{{- $s := .spec }}
{{- /* Shared with other models down to what is set here. */}}
{{- range list "resources" "storage" }}{{- $_ := set $s . (omit (index $s .) "") }}{{ end }}
{{- $said := list .values }}
{{- if .root.Values.accelerators }}
  {{- with get .root.Values.accelerators $s.accelerator.type }}{{ with .defaults }}{{ $said = append $said . }}{{ end }}{{ end }}
{{- end }}
{{- $open := dict "cpu" true "memory" true "cache" true }}
{{- range $said }}
  {{- range $key, $_ := .resources }}{{- $_ := unset $open $key }}{{ end }}
  {{- with .storage }}{{ with .cache }}{{- $_ := unset $open "cache" }}{{ end }}{{ end }}
{{- end }}
{{- $share := dict "part" 1 "of" 1 }}
{{- if .shared }}{{ $share = include "gpu-inference.sizing.share" . | fromJson }}{{ end }}
{{- $part := ne $share.of $share.part }}
{{- $bits := include "gpu-inference.sizing.bits" $s.model.weightsDtype }}
{{- $memory := 0 }}
{{- $cache := 0 }}
{{- if and $bits $s.model.parametersBillion }}
  {{- $cache = divf (mulf $s.model.parametersBillion $bits 3) (mul 16 (int64 $s.accelerator.count)) | ceil | int64 }}
  {{- $memory = add $cache 8 }}
{{- else if $part }}
  {{- $cache = include "gpu-inference.sizing.gib" (dict "size" $s.storage.cache.sizeLimit "share" $share) | int64 }}
  {{- $memory = include "gpu-inference.sizing.gib" (dict "size" $s.resources.memory.requests "share" $share) | int64 | max 8 }}
{{- end }}
{{- if and $cache $open.cache }}{{- $_ := set $s.storage "cache" (dict "sizeLimit" (printf "%dGi" $cache)) }}{{ end }}
{{- if and $memory $open.memory }}
  {{- $_ := set $s.resources "memory" (dict "requests" (printf "%dGi" $memory) "limits" (printf "%dGi" (div (add (mul 5 $memory) 3) 4))) }}
{{- end }}
{{- if and $part $open.cpu }}
  {{- $cores := divf (mulf $s.resources.cpu.requests $share.part) $share.of | ceil | int64 | max 2 }}
  {{- $_ := set $s.resources "cpu" (dict "requests" $cores "limits" (mulf 1.25 $cores)) }}
{{- end }}
{{- end }}

{{/*
gpu-inference.sizing.share is the part of a GPU that a pod has, {part, of}, as JSON: of its memory with MIG, else of its pods.
*/}}
{{- define "gpu-inference.sizing.share" -}}
{{- $gpu := .spec.accelerator }}
{{- $share := dict "part" 1 "of" 1 }}
{{- if eq $gpu.sharing "mig" }}
  {{- with .accelerator.mig }}{{ with get .profiles (get $gpu.mig "profile") }}
    {{- $share = dict "part" . "of" $.accelerator.memory.visibleMiB }}
  {{- end }}{{ end }}
{{- else if ne $gpu.sharing "none" }}
  {{- with get $gpu.shared "replicas" }}{{ $share = dict "part" 1 "of" . }}{{ end }}
{{- end }}
{{- toJson $share }}
{{- end }}

{{/*
gpu-inference.sizing.gib is a share of a quantity, in whole GiB. Takes {size, share}.
*/}}
{{- define "gpu-inference.sizing.gib" -}}
{{- $mib := include "gpu-inference.quantity.mib" .size | int64 | mul (int64 .share.part) }}
{{- $unit := mul 1024 (int64 .share.of) }}
{{- div (add $mib $unit -1) $unit }}
{{- end }}

{{/*
gpu-inference.sizing.bits: of one weight; nothing for a format that is not known. Four-bit formats carry scales.
*/}}
{{- define "gpu-inference.sizing.bits" -}}
{{- $format := lower (toString .) }}
{{- if has $format (list "fp32" "float32") }}32
{{- else if has $format (list "bf16" "bfloat16" "fp16" "float16" "half") }}16
{{- else if has $format (list "fp8" "int8" "w8a8") }}8
{{- else if has $format (list "fp4" "nvfp4" "mxfp4" "int4" "awq" "gptq") }}4.5
{{- end }}
{{- end }}
