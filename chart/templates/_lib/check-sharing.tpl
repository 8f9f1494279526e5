{{/*
A part of a GPU: one a pod, on nodes that are known, of a profile that exists.
*/}}
{{- define "gpu-inference.check.part" -}}
{{- $gpu := .spec.accelerator }}
{{- $path := printf "models.%s.accelerator" .name }}
{{- if ne $gpu.sharing "none" }}
  {{- if gt (int64 $gpu.count) 1 }}
{{ $path }}.count: parts of GPUs cannot work together, they have no path from one to another. Fix: set it to 1, or sharing to none.
  {{- else if gt (mul (int64 .spec.parallelism.tensor) (int64 .spec.parallelism.pipeline)) 1 }}
models.{{ .name }}.parallelism: tensor x pipeline is more than 1, and a part of a GPU works alone. Fix: set both to 1, or accelerator.sharing to none.
  {{- end }}
  {{- if not (or $gpu.dra (include "gpu-inference.sharing.marks" . | fromJson) (include "gpu-inference.check.selects" .)) }}
models.{{ .name }}.nodeSelector: how {{ .root.Values.cloud }} marks nodes with {{ $gpu.type }} and {{ include "gpu-inference.sharing.kind" . }} is not known. Fix: select them yourself{{ with .cloud.sharing }}{{ with get . $.accelerator.resource }}, or use one of {{ keys . | sortAlpha | join ", " }}{{ end }}{{ end }}.
  {{- end }}
{{- end }}
{{- if eq $gpu.sharing "mig" }}
  {{- $profiles := dict }}
  {{- with .accelerator.mig }}{{ $profiles = .profiles }}{{ end }}
  {{- if not $profiles }}
{{ $path }}.sharing: no slices of {{ $gpu.type }} are known. Fix: set it to timeSlicing or mps, or accelerators.{{ $gpu.type }}.mig.profiles.
  {{- else if not (hasKey $profiles (get $gpu.mig "profile")) }}
{{ $path }}.mig.profile: {{ get $gpu.mig "profile" | toJson }} is no slice of {{ $gpu.type }}. Fix: use one of {{ keys $profiles | sortAlpha | join ", " }}.
  {{- end }}
{{- end }}
{{- end }}

{{/*
Pods that share a GPU share its memory, and nothing but the server itself keeps it to its part.
*/}}
{{- define "gpu-inference.check.share" -}}
{{- $gpu := .spec.accelerator }}
{{- $path := printf "models.%s.accelerator" .name }}
{{- if has $gpu.sharing (list "timeSlicing" "mps") }}
  {{- if not (hasKey $gpu.shared "replicas") }}
{{ $path }}.shared.replicas: is not set. Fix: set it to the number of pods a GPU, as the device plugin's configuration has it.
  {{- else }}
    {{- $most := divf (floor (divf 100 $gpu.shared.replicas)) 100 }}
    {{- if hasKey $gpu "memoryFraction" }}
      {{- if gt (mulf $gpu.memoryFraction $gpu.shared.replicas) 1.0 }}
{{ $path }}.memoryFraction: {{ toJson $gpu.memoryFraction }} of the memory for each of {{ int64 $gpu.shared.replicas }} pods is more than there is. Fix: set it to {{ $most }} or less.
      {{- end }}
    {{- else if .runtime.fractional }}
{{ $path }}.memoryFraction: is not set, so each of {{ int64 $gpu.shared.replicas }} pods would take most of the memory. Fix: set it to {{ $most }} or less.
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
Weights that are larger than the part of the GPU never load.
*/}}
{{- define "gpu-inference.check.weights" -}}
{{- $share := include "gpu-inference.sizing.share" . | fromJson }}
{{- $bits := include "gpu-inference.sizing.bits" .spec.model.weightsDtype }}
{{- if and $bits .spec.model.parametersBillion .accelerator.memory (ne $share.part $share.of) }}
  {{- $weights := divf (mulf .spec.model.parametersBillion $bits 1000000000) 8388608 | ceil | int64 }}
  {{- $memory := div (mul (int64 .accelerator.memory.visibleMiB) (int64 $share.part)) (int64 $share.of) }}
  {{- if gt $weights $memory }}
models.{{ .name }}.model.parametersBillion: the weights are {{ $weights }} MiB, and the part of the GPU has {{ $memory }} MiB. Fix: use a larger part of it, or weights of a smaller format.
  {{- end }}
{{- end }}
{{- end }}

{{- define "gpu-inference.check.claim" -}}
{{- $gpu := .spec.accelerator }}
{{- if $gpu.dra }}
  {{- $path := printf "models.%s.accelerator.dra" .name }}
  {{- if not (and .accelerator.dra (or (ne $gpu.sharing "mig") (get .accelerator.dra "migDeviceClass"))) }}
{{ $path }}: how {{ $gpu.type }} is claimed is not known. Fix: set it to false, or accelerators.{{ $gpu.type }}.dra.
  {{- end }}
  {{- if has $gpu.sharing (list "timeSlicing" "mps") }}
{{ $path }}: claims a GPU of its own, and {{ $gpu.sharing }} is the device plugin's. Fix: set it to false, or sharing to none or mig.
  {{- end }}
  {{- $version := .root.Capabilities.KubeVersion.Version }}
  {{- if semverCompare "<1.34-0" $version }}
{{ $path }}: Kubernetes {{ $version }} does not serve resource.k8s.io/v1. Fix: set it to false, or upgrade to 1.34.
  {{- end }}
{{- end }}
{{- end }}
