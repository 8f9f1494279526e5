{{/*
gpu-inference.resolve.all resolves every model once and keeps the result in the root context, which all templates of a
chart share:
  .resolved.models    list of what the templates render from: {name, fullname, metadata, selector, nodes, sizes, spec, runtime,
                      accelerator, cloud, root}
  .resolved.unknown   text: names of presets that do not exist, a line each
A spec is, the last one wins: the cloud's scheduling, modelDefaults, the runtime's defaults, the accelerator's defaults,
models.<name>; then entries that are `false` are removed, and what follows from the rest is added.
*/}}
{{- define "gpu-inference.resolve.all" -}}
{{- if not (hasKey . "resolved") }}
  {{- $store := dict "runtimes" dict "accelerators" dict "clouds" dict "bases" dict }}
  {{- $resolved := dict "models" list "unknown" "" }}
  {{- $_ := set . "resolved" $resolved }}
  {{- include "gpu-inference.presets.get" (dict "root" . "store" $store "kind" "clouds" "name" .Values.cloud) }}
  {{- if not (hasKey $store.clouds .Values.cloud) }}
    {{- $problem := dict "root" . "path" "cloud" "name" .Values.cloud "kind" "clouds" "what" "cloud" }}
    {{- $_ := set $resolved "unknown" (include "gpu-inference.resolve.unknown" $problem) }}
  {{- end }}
  {{- $root := . }}
  {{- $models := list }}
  {{- range $name, $values := .Values.models }}
    {{- $m := dict "root" $root "store" $store "name" $name "values" $values }}
    {{- include "gpu-inference.resolve.presets" $m }}
    {{- if hasKey $m "accelerator" }}
      {{- include "gpu-inference.resolve.model" $m }}
      {{- $models = append $models $m }}
    {{- end }}
  {{- end }}
  {{- $_ := set $resolved "models" $models }}
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
{{- $problem := dict "root" .root "path" (printf "models.%s.runtime" .name) "name" $runtime "kind" "runtimes" "what" "runtime" }}
{{- include "gpu-inference.presets.get" (dict "root" .root "store" .store "kind" "runtimes" "name" $runtime) }}
{{- include "gpu-inference.presets.get" (dict "root" .root "store" .store "kind" "accelerators" "name" $type) }}
{{- $unknown := "" }}
{{- if not (hasKey .store.runtimes $runtime) }}
  {{- $unknown = print $unknown (include "gpu-inference.resolve.unknown" $problem) }}
{{- end }}
{{- if not (hasKey .store.accelerators $type) }}
  {{- $problem = dict "root" .root "path" (printf "models.%s.accelerator.type" .name) "name" $type "kind" "accelerators" "what" "accelerator" }}
  {{- $unknown = print $unknown (include "gpu-inference.resolve.unknown" $problem) }}
{{- end }}
{{- $_ := set .root.resolved "unknown" (print .root.resolved.unknown $unknown) }}
{{- if and (not $unknown) (hasKey .store.clouds .root.Values.cloud) }}
  {{- $_ := set . "runtime" (index .store.runtimes $runtime) }}
  {{- $_ := set . "accelerator" (index .store.accelerators $type) }}
  {{- $_ := set . "cloud" (index .store.clouds .root.Values.cloud) }}
  {{- $_ := set . "base" (printf "%s %s %s" $runtime $type $capacity) }}
  {{- $_ := set . "capacity" $capacity }}
{{- end }}
{{- end }}

{{/*
gpu-inference.resolve.unknown is the line about a name that is not known. Takes {root, path, name, kind, what}.
*/}}
{{- define "gpu-inference.resolve.unknown" -}}
{{- $known := include "gpu-inference.presets.known" . }}
{{- if .name }}
{{ .path }}: {{ toJson .name }} is not a known {{ .what }}. Fix: use one of {{ $known }}, or define {{ .kind }}.{{ .name }}.
{{- else }}
{{ .path }}: is not set. Fix: use one of {{ $known }}.
{{- end }}
{{- end }}
