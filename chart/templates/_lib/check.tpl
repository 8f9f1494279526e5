{{/*
gpu-inference.check.*: each prints a line for every problem it finds in one model, "<path>: <what>. Fix: <how>.", or nothing.
*/}}
{{- define "gpu-inference.check.release" -}}
{{- $fullname := include "gpu-inference.labels.fullname" . }}
{{- if not (regexMatch "^[a-z][-a-z0-9]*$" $fullname) }}
fullnameOverride: {{ toJson $fullname }} cannot begin the name of a Service. Fix: set it to a letter, then letters, digits and "-".
{{- end }}
{{- end }}

{{- define "gpu-inference.check.name" -}}
{{- $most := .kind.longestName }}
{{- if gt (len .fullname) $most }}
models.{{ .name }}: "{{ .fullname }}" is {{ len .fullname }} characters long, and at most {{ $most }} fit into the names of its objects. Fix: shorten the model's name or set fullnameOverride.
{{- end }}
{{- end }}

{{- define "gpu-inference.check.image" -}}
{{- $image := .spec.image }}
{{- if not $image.repository }}
models.{{ .name }}.image.repository: is not set. Fix: set it, or runtimes.{{ .spec.runtime }}.defaults.image.repository for all its models.
{{- end }}
{{- if not (or $image.tag $image.digest) }}
models.{{ .name }}.image.tag: is not set. Fix: set it, or runtimes.{{ .spec.runtime }}.defaults.image.tag for all its models.
{{- end }}
{{- if and .runtime.dated (not .spec.runtimeVersion) }}
models.{{ .name }}.runtimeVersion: is not set, and what {{ .spec.runtime }} is told depends on it. Fix: set it, or runtimes.{{ .spec.runtime }}.defaults.runtimeVersion.
{{- end }}
{{- end }}

{{- define "gpu-inference.check.startup" -}}
{{- $startup := .spec.startup }}
{{- if lt (int64 $startup.budgetSeconds) (int64 $startup.loadSeconds) }}
models.{{ .name }}.probes.startup.failureThreshold: allows {{ int64 $startup.budgetSeconds }} s, and loading takes {{ int64 $startup.loadSeconds }} s: the container would be restarted for ever. Fix: remove it, or raise it.
{{- end }}
{{- end }}

{{/*
gpu-inference.check.preset: what a runtime preset takes from its models must be there. The chart's own are tested. A
variable may be unset, as an argument may, but it cannot come from nowhere.
*/}}
{{- define "gpu-inference.check.preset" -}}
{{- $runtime := .spec.runtime }}
{{- range $name, $entry := .runtime.env }}
  {{- if not (kindIs "map" (get $.spec (splitList "." $entry.from | first))) }}
runtimes.{{ $runtime }}.env.{{ $name }}.from: no model has {{ $entry.from }}. Fix: name a key of a model.
  {{- end }}
{{- end }}
{{- range $label, $from := dig "metrics" "inFlight" "selector" dict .runtime }}
  {{- $section := get $.spec (splitList "." $from | first) }}
  {{- if not (kindIs "map" $section) }}{{ $section = dict }}{{ end }}
  {{- if not (hasKey $section (splitList "." $from | last)) }}
runtimes.{{ $runtime }}.metrics.inFlight.selector.{{ $label }}: {{ $from }} of model {{ $.name }} is not set. Fix: name a key that every model has.
  {{- end }}
{{- end }}
{{- end }}

{{- define "gpu-inference.check.accelerator" -}}
{{- $count := int64 .spec.accelerator.count }}
{{- $p := .spec.parallelism }}
{{- $shards := mul (int64 $p.tensor) (int64 $p.pipeline) }}
{{- $type := .spec.accelerator.type }}
{{- if and .runtime.images (not (hasKey .runtime.images .accelerator.vendor)) (eq (toString .spec.image.repository) (toString .runtime.defaults.image.repository)) }}
models.{{ .name }}.image.repository: {{ .spec.image.repository }} does not run on {{ $type }}. Fix: set it to an image that does, or runtimes.{{ .spec.runtime }}.images.{{ .accelerator.vendor }} for all models.
{{- end }}
{{- with .accelerator.gpusPerNode }}{{ if gt $count (int64 .) }}
models.{{ $.name }}.accelerator.count: no node has {{ $count }} {{ $type }}, but at most {{ int64 . }}. Fix: lower it, and spread the model over the pods of a LeaderWorkerSet.
{{- end }}{{ end }}
{{- range $label, $values := .accelerator.countLabels }}
  {{- if not (hasKey $values (toString $.spec.accelerator.count)) }}
models.{{ $.name }}.accelerator.count: no node has just {{ $count }} {{ $type }}, as {{ $label }} tells. Fix: use one of {{ keys $values | sortAlpha | join ", " }}.
  {{- end }}
{{- end }}
{{- if eq .spec.workload "LeaderWorkerSet" }}{{- /* its pods hold the layers */}}
{{- else if and .runtime.parallel (ne $shards $count) }}
models.{{ .name }}.parallelism: tensor {{ int64 $p.tensor }} x pipeline {{ int64 $p.pipeline }} = {{ $shards }}, but accelerator.count is {{ $count }}. Fix: make the product equal to the count.
{{- else if and (not .runtime.pipelined) (gt (int64 $p.pipeline) 1) }}
models.{{ .name }}.parallelism.pipeline: {{ .spec.runtime }} cannot be told to split a model by layers. Fix: set it to 1{{ if .runtime.parallel }}, and tensor to {{ $count }}{{ end }}.
{{- end }}
{{- end }}

{{- define "gpu-inference.check.nodes" -}}
{{- $cloud := .root.Values.cloud }}
{{- $label := get .cloud.productLabels .accelerator.resource }}
{{- if not (or .spec.accelerator.dra (hasKey .accelerator.nodeLabels $label) (include "gpu-inference.check.selects" .)) }}
models.{{ .name }}.nodeSelector: on {{ $cloud }} nothing is known that marks nodes with {{ .spec.accelerator.type }}. Fix: select them yourself, for example {node.kubernetes.io/instance-type: …}.
{{- end }}
{{- if not (hasKey .cloud .capacity) }}
models.{{ .name }}.capacity: how {{ $cloud }} marks {{ .capacity }} nodes is not known. Fix: set cloud to the one this is, or clouds.{{ $cloud }}.{{ .capacity }}.
{{- end }}
{{- range $name, $toleration := .spec.tolerations }}
  {{- if not $toleration.key }}
models.{{ $.name }}.tolerations.{{ $name }}: has no key, so it covers every taint, also those that drain a node. Fix: name the taint's key.
  {{- end }}
{{- end }}
{{- range .spec.pod.tolerations }}
  {{- if not .key }}
models.{{ $.name }}.pod.tolerations: one has no key, so it covers every taint, also those that drain a node. Fix: use tolerations, and name the taint's key.
  {{- end }}
{{- end }}
{{- end }}

{{/*
Whether any layer selects nodes beside the cloud's capacity and the GPU.
*/}}
{{- define "gpu-inference.check.selects" -}}
{{- range list .values .root.Values.modelDefaults .cloud .runtime.defaults .accelerator.defaults }}
  {{- with . }}{{ with .nodeSelector }}yes{{ end }}{{ end }}
{{- end }}
{{- end }}
