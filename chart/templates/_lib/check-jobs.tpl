{{/*
gpu-inference.check.engine: of models whose engine is built first.
*/}}
{{- define "gpu-inference.check.engine" -}}
{{- $s := .spec }}
{{- $path := printf "models.%s.engine" .name }}
{{- if not (hasKey .runtime "engine") }}
{{ $path }}.enabled: {{ $s.runtime }} has no engines to build. Fix: set it to false, or define runtimes.{{ $s.runtime }}.engine.
{{- else }}
  {{- with get .runtime.engine "until" }}
    {{- if and $s.runtimeVersion (semverCompare (printf ">=%s-0" .) $s.runtimeVersion) }}
{{ $path }}.enabled: {{ $s.runtime }} {{ $s.runtimeVersion }} serves no engines. Fix: set it to false, or use an older image and its runtimeVersion, below {{ . }}.
    {{- end }}
  {{- end }}
  {{- include "gpu-inference.check.precision" . }}
  {{- $steps := list }}
  {{- range .runtime.engine.steps }}{{ $steps = append $steps .name }}{{ end }}
  {{- range $step, $_ := dig "extraArgs" dict $s.engine }}
    {{- if not (has $step $steps) }}
{{ $path }}.extraArgs.{{ $step }}: {{ $s.runtime }} has no such step. Fix: use one of {{ join ", " $steps }}.
    {{- end }}
  {{- end }}
  {{- if not (hasPrefix "pvc://" $s.engine.source) }}
{{ $path }}.source: {{ toJson $s.engine.source }} is no claim, which the build reads the weights from. Fix: set it to pvc://claim/path.
  {{- end }}
  {{- if and (hasKey $s.pod "initContainers") (not .folder) }}
models.{{ .name }}.pod.initContainers: would replace the wait for the engine. Fix: remove it.
  {{- end }}
{{- end }}
{{- include "gpu-inference.check.engineSize" . }}
{{- end }}

{{- define "gpu-inference.check.precision" -}}
{{- $precision := .spec.engine.precision }}
{{- $known := .runtime.engine.precisions }}
{{- if not (hasKey $known $precision) }}
models.{{ .name }}.engine.precision: {{ .spec.runtime }} builds no {{ $precision }}. Fix: use one of {{ keys $known | sortAlpha | join ", " }}.
{{- else }}
  {{- $needs := get (index $known $precision) "needs" }}
  {{- if and $needs (not (dig "tflops" $needs 0 .accelerator)) }}
models.{{ .name }}.engine.precision: {{ .spec.accelerator.type }} does not compute in {{ $needs }}. Fix: use another precision or accelerator.
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.engineSize: the GPUs, the disk and the lengths must fit.
*/}}
{{- define "gpu-inference.check.engineSize" -}}
{{- $s := .spec }}
{{- $engine := $s.engine }}
{{- $ranks := mul (int64 $s.parallelism.tensor) (int64 $s.parallelism.pipeline) }}
{{- if not (has $s.workload (list "Deployment" "StatefulSet")) }}
models.{{ .name }}.engine.enabled: the pods of a {{ $s.workload }} do not wait for one. Fix: set it to false, or workload to Deployment.
{{- else if and (not .runtime.parallel) (ne $ranks (int64 $s.accelerator.count)) }}
models.{{ .name }}.engine.enabled: an engine of {{ $ranks }} ranks (tensor x pipeline) is for as many GPUs; accelerator.count is {{ int64 $s.accelerator.count }}. Fix: make them equal.
{{- end }}
{{- if not (or (get $engine.claim "name") (get $engine.claim "size")) }}
models.{{ .name }}.engine.claim: says neither which claim engines are on nor how large one is to be made. Fix: set name, or size.
{{- else if and (not (get $engine.claim "name")) (hasKey $s.claims "engines") }}
models.{{ .name }}.claims.engines: is called like the claim that engine.claim has made. Fix: use another name, or set engine.claim.name.
{{- end }}
{{- $most := dict "contextLength" (add (int64 $engine.maxInputLength) (int64 $engine.maxOutputLength)) "maxConcurrentRequests" (int64 $engine.maxBatchSize) }}
{{- range $key, $limit := $most }}
  {{- if gt (get $s.model $key | int64) $limit }}
models.{{ $.name }}.model.{{ $key }}: {{ get $s.model $key | int64 }} is more than the engine is built for, {{ $limit }}. Fix: raise the engine's limits, or lower it.
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.backup and .images: of the release. Take the root context.
*/}}
{{- define "gpu-inference.check.backup" -}}
{{- if not .Values.backup.destination }}
backup.enabled: no destination is set. Fix: set backup.destination, such as s3://bucket/path.
{{- end }}
{{- if eq (include "gpu-inference.backup.claims" .) "[]" }}
backup.enabled: no model lies on a claim. Fix: name what to copy in backup.claims, or set it to false.
{{- end }}
{{- end }}

{{- define "gpu-inference.check.images" -}}
{{- range $name, $image := .Values.images }}
  {{- if not (and (get $image "repository") (or (get $image "tag") (get $image "digest"))) }}
images.{{ $name }}: is not whole. Fix: set repository, and tag or digest.
  {{- end }}
{{- end }}
{{- end }}
