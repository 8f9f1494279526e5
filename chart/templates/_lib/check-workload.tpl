{{/*
A LeaderWorkerSet's pods hold a stage of the pipeline each, and the runtime must know how.
*/}}
{{- define "gpu-inference.check.group" -}}
{{- if eq .spec.workload "LeaderWorkerSet" }}
  {{- $runtime := .spec.runtime }}
  {{- if not (hasKey .runtime "multiNode") }}
models.{{ .name }}.workload: {{ $runtime }} cannot be spread over the pods of a group. Fix: set it to Deployment or StatefulSet, or define runtimes.{{ $runtime }}.multiNode.
  {{- end }}
  {{- with .runtime.multiNode }}{{ with .since }}
    {{- if and $.spec.runtimeVersion (semverCompare (printf "<%s-0" .) $.spec.runtimeVersion) }}
models.{{ $.name }}.runtimeVersion: {{ $runtime }} {{ $.spec.runtimeVersion }} cannot be spread over the pods of a group yet. Fix: use {{ . }} or newer, with its image.
    {{- end }}
  {{- end }}{{ end }}
  {{- if lt (int64 .spec.parallelism.pipeline) 2 }}
models.{{ .name }}.parallelism.pipeline: a single pod needs no LeaderWorkerSet. Fix: set it to the number of pods a replica, or workload to Deployment.
  {{- end }}
  {{- $count := int64 .spec.accelerator.count }}
  {{- if ne (int64 .spec.parallelism.tensor) $count }}
models.{{ .name }}.parallelism.tensor: is {{ int64 .spec.parallelism.tensor }}, but accelerator.count, the GPUs of a pod of the group, is {{ $count }}. Fix: make them equal.
  {{- end }}
{{- end }}
{{- end }}

{{/*
Services that give pods their names: a StatefulSet's is called <name>-pods, those of a LeaderWorkerSet's groups <name>-<number>.
*/}}
{{- define "gpu-inference.check.neighbours" -}}
{{- if has .spec.workload (list "StatefulSet" "LeaderWorkerSet") }}
  {{- $taken := printf "^%s-(%s)$" .name (ternary "pods" "[0-9]+" (eq .spec.workload "StatefulSet")) }}
  {{- range $other, $_ := .root.Values.models }}
    {{- if regexMatch $taken $other }}
models.{{ $other }}: the {{ $.spec.workload }} of {{ $.name }} has a Service of this name. Fix: rename one of the two.
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
A rollout must be one that the kind of workload can do.
*/}}
{{- define "gpu-inference.check.rollout" -}}
{{- $rollout := .spec.rollout }}
{{- $path := printf "models.%s.rollout" .name }}
{{- if ne $rollout.strategy "RollingUpdate" }}
  {{- if ne .spec.workload "Deployment" }}
{{ $path }}.strategy: a {{ .spec.workload }} has no {{ $rollout.strategy }}. Fix: set it to RollingUpdate, or workload to Deployment.
  {{- else if $rollout.spareGPU }}
{{ $path }}.spareGPU: {{ $rollout.strategy }} ends every old pod before a new one starts, so none comes up beside them. Fix: set it to false.
  {{- end }}
{{- else if and (eq .spec.workload "StatefulSet") $rollout.spareGPU }}
{{ $path }}.spareGPU: a StatefulSet brings a new pod under the old one's name, so the old one has to go first. Fix: set it to false.
{{- end }}
{{- end }}

{{/*
A claim of a Deployment is one for all its pods. One that a single node can mount, or write to, leaves the others waiting for ever.
*/}}
{{- define "gpu-inference.check.claims" -}}
{{- range $name, $claim := .spec.claims }}
  {{- if not (without $claim.accessModes "ReadOnlyMany") }}
models.{{ $.name }}.claims.{{ $name }}.accessModes: the chart makes the claim empty, and nothing could write to it. Fix: add ReadWriteMany, or mount a claim that is filled as volumes.{{ $name }}.
  {{- end }}
{{- end }}
{{- if and .spec.claims (ne .spec.workload "StatefulSet") (not (hasKey .kind "operated")) }}
  {{- $most := include "gpu-inference.workload.mostPods" . | int64 }}
  {{- if eq .spec.workload "LeaderWorkerSet" }}{{ $most = mul $most (int64 .spec.parallelism.pipeline) }}{{ end }}
  {{- range $name, $claim := .spec.claims }}
    {{- if and (without $claim.accessModes "ReadOnlyMany") (not (has "ReadWriteMany" $claim.accessModes)) }}
      {{- if gt $most 1 }}
models.{{ $.name }}.claims.{{ $name }}: one node can mount it at a time, and {{ $most }} pods share it. Fix: set workload to StatefulSet, where each has its own, or accessModes to [ReadWriteMany].
      {{- else if $.spec.rollout.spareGPU }}
models.{{ $.name }}.claims.{{ $name }}: one node can mount it at a time, and a rollout brings the new pod beside the old one. Fix: set rollout to {spareGPU: false, strategy: Recreate}, or accessModes to [ReadWriteMany].
      {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}
