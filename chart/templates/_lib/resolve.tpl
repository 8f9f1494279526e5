{{/*
gpu-inference.resolve.all resolves every model once and keeps the result in the root context, which all templates of a
chart share:
  .resolved.models    list of what the templates render from: {name, fullname, metadata, selector, nodes, sizes, spec, kind, runtime,
                      accelerator, cloud, root}
  .resolved.networked   those of them that have more to do with the network than a Service
  .resolved.engines     those whose engine is built first
  .resolved.prePulled   those whose image is to be on the nodes before them
  .resolved.watched   those of them whose health is looked at by more than the runtime's own probes
  .resolved.jobs        those whose model a Job downloads
  .resolved.downloads   whether the chart downloads any model
  .resolved.scaled      those of them with an autoscaler; they also have .signals
  .resolved.operated    models whose pods an operator makes; they are not among the others
  .resolved.shared      those that do not simply ask for whole GPUs
  .resolved.claimed     those of them that claim their GPUs (.claim)
  .resolved.bursts      the spot pods of those of capacity mixed, as models of their own (see gpu-inference.capacity.burst)
  .resolved.balloons    those of them that keep a node warm
  .resolved.priorityClasses  name -> what the chart makes: those of the values, and the one for balloons
  .resolved.fullname, .labels   what all names of the release begin with; labels of all its objects, indented
  .resolved.unknown   text: names of presets that do not exist, a line each
A spec is, the last one wins: the cloud's scheduling, modelDefaults, the runtime's defaults, the accelerator's defaults,
models.<name>; then entries that are `false` are removed, and what follows from the rest is added.
*/}}
{{- define "gpu-inference.resolve.all" -}}
{{- if not (hasKey . "resolved") }}
  {{- $store := dict "runtimes" dict "accelerators" dict "clouds" dict "bases" dict "mib" dict "kinds" dict "signals" dict "checked" dict "texts" dict "sized" dict }}
  {{- $resolved := dict "downloads" false "unknown" "" "fullname" (include "gpu-inference.labels.fullname" .)
      "labels" (include "gpu-inference.labels.release" . | nindent 4) }}
  {{- $lists := list "models" "networked" "watched" "bursts" "balloons" "engines" "prePulled" "scaled" "operated" "jobs" "shared" "claimed" }}
  {{- range $lists }}{{- $_ := set $resolved . list }}{{ end }}
  {{- $_ := set . "resolved" $resolved }}
  {{- $wanted := dict "root" . "store" $store "kind" "clouds" "name" .Values.cloud "what" "cloud" "path" "cloud" }}
  {{- $_ := set $resolved "unknown" (include "gpu-inference.resolve.preset" $wanted) }}
  {{- $root := . }}
  {{- /* Fifty at a time: every `append` copies its list. */}}
  {{- range keys .Values.models | sortAlpha | chunk 50 }}
    {{- $part := dict }}
    {{- range $lists }}{{- $_ := set $part . list }}{{ end }}
    {{- range . }}
      {{- $m := dict "root" $root "store" $store "name" . "values" (index $root.Values.models .) }}
      {{- template "gpu-inference.resolve.presets" $m }}
      {{- if hasKey $m "accelerator" }}
        {{- template "gpu-inference.resolve.model" $m }}
        {{- template "gpu-inference.resolve.note" (dict "m" $m "lists" $part) }}
      {{- end }}
    {{- end }}
    {{- range $lists }}{{- $_ := set $resolved . (concat (index $resolved .) (index $part .)) }}{{ end }}
  {{- end }}
  {{- template "gpu-inference.capacity.classes" (dict "resolved" $resolved "classes" .Values.priorityClasses) }}
{{- end }}
{{- end }}

{{/*
gpu-inference.resolve.note puts a model into the lists it is in, so that what few models use costs the others nothing.
Takes {m, lists}.
*/}}
{{- define "gpu-inference.resolve.note" -}}
{{- $m := .m }}
{{- $s := $m.spec }}
{{- $lists := .lists }}
{{- if $m.folder }}
  {{- $_ := set $m.root.resolved "downloads" true }}
  {{- if eq $m.fetch "job" }}{{ $_ := set $lists "jobs" (append $lists.jobs $m) }}{{ end }}
{{- end }}
{{- if $m.shared }}{{ $_ := set $lists "shared" (append $lists.shared $m) }}{{ end }}
{{- if $m.claim }}{{ $_ := set $lists "claimed" (append $lists.claimed $m) }}{{ end }}
{{- if eq $s.capacity "mixed" }}
  {{- template "gpu-inference.capacity.burst" $m }}
  {{- $_ := set $lists "bursts" (append $lists.bursts $m.burst) }}
{{- end }}
{{- if $s.balloon.replicas }}{{ $_ := set $lists "balloons" (append $lists.balloons $m) }}{{ end }}
{{- if $s.engine.enabled }}{{ $_ := set $lists "engines" (append $lists.engines $m) }}{{ end }}
{{- if $s.prePull }}{{ $_ := set $lists "prePulled" (append $lists.prePulled $m) }}{{ end }}
{{- if $s.autoscaling.enabled }}{{ template "gpu-inference.scaling.signals" $m }}{{ end }}
{{- if hasKey $m.kind "operated" }}
  {{- $_ := set $lists "operated" (append $lists.operated $m) }}
{{- else }}
  {{- $_ := set $lists "models" (append $lists.models $m) }}
  {{- if $s.autoscaling.enabled }}{{ $_ := set $lists "scaled" (append $lists.scaled $m) }}{{ end }}
  {{- if or $s.networkPolicy.enabled $s.ingress.enabled $s.gateway.enabled }}{{ $_ := set $lists "networked" (append $lists.networked $m) }}{{ end }}
  {{- $monitoring := $s.monitoring }}
  {{- if or $m.scripts $s.canary.enabled $monitoring.rules.enabled $monitoring.dashboard $monitoring.serviceMonitor.enabled }}
    {{- $_ := set $lists "watched" (append $lists.watched $m) }}
  {{- end }}
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
{{- if eq $capacity "mixed" }}{{ $capacity = "onDemand" }}{{ end }}
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
