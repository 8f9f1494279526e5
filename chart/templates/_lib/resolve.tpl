{{/*
gpu-inference.resolve.all resolves every model once and keeps the result in the root context, which all templates of a
chart share:
  .resolved.models    list of what the templates render from: {name, fullname, metadata, selector, nodes, sizes, spec, kind, runtime,
                      accelerator, cloud, root}
  .resolved.networked   those of them that have more to do with the network than a Service
  .resolved.scaled      those of them with an autoscaler; they also have .signals
  .resolved.operated    models whose pods an operator makes; they are not among the others
  .resolved.shared      those that do not simply ask for whole GPUs
  .resolved.claimed     those of them that claim their GPUs (.claim)
  .resolved.unknown   text: names of presets that do not exist, a line each
A spec is, the last one wins: the cloud's scheduling, modelDefaults, the runtime's defaults, the accelerator's defaults,
models.<name>; then entries that are `false` are removed, and what follows from the rest is added.
*/}}
{{- define "gpu-inference.resolve.all" -}}
{{- if not (hasKey . "resolved") }}
  {{- $store := dict "runtimes" dict "accelerators" dict "clouds" dict "bases" dict "mib" dict "kinds" dict }}
  {{- $resolved := dict "models" list "networked" list "scaled" list "operated" list "shared" list "claimed" list "unknown" "" }}
  {{- $_ := set . "resolved" $resolved }}
  {{- $wanted := dict "root" . "store" $store "kind" "clouds" "name" .Values.cloud "what" "cloud" "path" "cloud" }}
  {{- $_ := set $resolved "unknown" (include "gpu-inference.resolve.preset" $wanted) }}
  {{- $root := . }}
  {{- $models := list }}
  {{- $networked := list }}
  {{- $shared := list }}
  {{- $claimed := list }}
  {{- range $name, $values := .Values.models }}
    {{- $m := dict "root" $root "store" $store "name" $name "values" $values }}
    {{- template "gpu-inference.resolve.presets" $m }}
    {{- if hasKey $m "accelerator" }}
      {{- template "gpu-inference.resolve.model" $m }}
      {{- if $m.shared }}{{ $shared = append $shared $m }}{{ end }}
      {{- if $m.claim }}{{ $claimed = append $claimed $m }}{{ end }}
      {{- if hasKey $m.kind "operated" }}
        {{- $_ := set $resolved "operated" (append $resolved.operated $m) }}
        {{- if $m.spec.autoscaling.enabled }}{{ template "gpu-inference.scaling.signals" $m }}{{ end }}
        {{- continue }}
      {{- end }}
      {{- $models = append $models $m }}
      {{- if or $m.spec.networkPolicy.enabled $m.spec.ingress.enabled $m.spec.gateway.enabled }}{{ $networked = append $networked $m }}{{ end }}
      {{- if $m.spec.autoscaling.enabled }}
        {{- template "gpu-inference.scaling.signals" $m }}
        {{- $_ := set $resolved "scaled" (append $resolved.scaled $m) }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- $_ := set $resolved "models" $models }}
  {{- $_ := set $resolved "networked" $networked }}
  {{- $_ := set $resolved "shared" $shared }}
  {{- $_ := set $resolved "claimed" $claimed }}
{{- end }}
{{- end }}

{{/*
gpu-inference.resolve.presets sets .runtime, .accelerator and .cloud, or records the names that are unknown.
*/}}
{{- define "gpu-inference.resolve.presets" -}}
{{- $defaults := .root.Values.modelDefaults }}
{{- $runtime := $defaults.runtime }}
{{- if hasKey .values "runtime" }}{{ $runtime = .values.runtime }}{{ end }}
{{- $type := $defaults.accelerator.type }}
{{- if hasKey .values "accelerator" }}
  {{- if hasKey .values.accelerator "type" }}{{ $type = .values.accelerator.type }}{{ end }}
{{- end }}
{{- $capacity := $defaults.capacity }}
{{- if hasKey .values "capacity" }}{{ $capacity = .values.capacity }}{{ end }}
{{- $unknown := "" }}
{{- if not (hasKey .store.runtimes $runtime) }}
  {{- $wanted := dict "root" .root "store" .store "kind" "runtimes" "name" $runtime "what" "runtime" "path" (printf "models.%s.runtime" .name) }}
  {{- $unknown = include "gpu-inference.resolve.preset" $wanted }}
{{- end }}
{{- if not (hasKey .store.accelerators $type) }}
  {{- $wanted := dict "root" .root "store" .store "kind" "accelerators" "name" $type "what" "accelerator" "path" (printf "models.%s.accelerator.type" .name) }}
  {{- $unknown = print $unknown (include "gpu-inference.resolve.preset" $wanted) }}
{{- end }}
{{- if $unknown }}
  {{- $_ := set .root.resolved "unknown" (print .root.resolved.unknown $unknown) }}
{{- else if hasKey .store.clouds .root.Values.cloud }}
  {{- $_ := set . "runtime" (index .store.runtimes $runtime) }}
  {{- $_ := set . "accelerator" (index .store.accelerators $type) }}
  {{- $_ := set . "cloud" (index .store.clouds .root.Values.cloud) }}
  {{- $_ := set . "base" (printf "%s %s %s" $runtime $type $capacity) }}
  {{- $_ := set . "capacity" $capacity }}
{{- end }}
{{- end }}

{{/*
gpu-inference.resolve.preset puts a preset into the store, or prints a line about a name that is not known.
Takes {root, store, kind, name, what, path}.
*/}}
{{- define "gpu-inference.resolve.preset" -}}
{{- template "gpu-inference.presets.get" . }}
{{- if not (hasKey (index .store .kind) .name) }}
  {{- $known := include "gpu-inference.presets.known" . }}
  {{- if .name }}
{{ .path }}: {{ toJson .name }} is not a known {{ .what }}. Fix: use one of {{ $known }}, or define {{ .kind }}.{{ .name }}.
  {{- else }}
{{ .path }}: is not set. Fix: use one of {{ $known }}.
  {{- end }}
{{- end }}
{{- end }}
