{{/*
gpu-inference.presets.get puts a preset into the store, or nothing when the name is unknown: the chart's file with the
values' entry of the same name merged over it.
Takes {root, store, kind: runtimes | accelerators | clouds, name}.
*/}}
{{- define "gpu-inference.presets.get" -}}
{{- $known := index .store .kind }}
{{- if not (hasKey $known .name) }}
  {{- $file := .root.Files.Get (printf "%s/%s.yaml" .kind .name) }}
  {{- $own := index .root.Values .kind }}
  {{- if or $file (hasKey $own .name) }}
    {{- $preset := fromYaml $file }}
    {{- if hasKey $preset "Error" }}
      {{- fail (printf "%s/%s.yaml is not valid YAML: %s" .kind .name $preset.Error) }}
    {{- end }}
    {{- if hasKey $own .name }}
      {{- $preset = mustMergeOverwrite $preset (deepCopy (index $own .name)) }}
      {{- with include "gpu-inference.presets.missing" (dict "kind" .kind "preset" $preset) }}
        {{- fail (printf "these values cannot work:\n\n%s.%s: lacks%s. Fix: set it as chart/%s/*.yaml do.\n" $.kind $.name . $.kind) }}
      {{- end }}
    {{- end }}
    {{- $_ := set $preset "own" (hasKey $own .name) }}
    {{- with $preset.resource }}{{- $_ := set $preset "vendor" (splitList "/" . | first) }}{{ end }}
    {{- $_ := set $known .name $preset }}
    {{- template "gpu-inference.presets.paths" $preset }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.presets.missing lists what templates read of a preset and a user's own one lacks. Takes {kind, preset}.
*/}}
{{- define "gpu-inference.presets.missing" -}}
{{- $needed := dict
    "clouds" (list "productLabels" "nodeSelector" "tolerations")
    "accelerators" (list "resource" "nodeLabels")
    "runtimes" (list "modelSources" "command" "args" "ports.http" "metrics.port" "metrics.path" "lifecycle.teardownSeconds"
      "probes.startup.path" "probes.startup.port" "probes.readiness.path" "probes.readiness.port"
      "probes.liveness.path" "probes.liveness.port") }}
{{- $keys := index $needed .kind }}
{{- if hasKey .preset "engine" }}{{ $keys = append $keys "engine.precisions" | concat (list "engine.steps") }}{{ end }}
{{- range $keys }}
  {{- $value := $.preset }}
  {{- range splitList "." . }}
    {{- if kindIs "map" $value }}{{ $value = get $value . }}{{ else }}{{ $value = "" }}{{ end }}
  {{- end }}
  {{- if and (not $value) (has (kindOf $value) (list "string" "invalid")) }} {{ . }}{{ end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.presets.paths splits each `from`, "section.field", once, so that no model has to, and notes whether the server
is told to shard the model (.parallel) and to do so by layers (.pipelined), how much of a GPU's memory it may take
(.fractional), whether any of it depends on its version (.dated), which keys of a model's `model` (.takes), and whether it is
probed by the model's name (.probesName).
*/}}
{{- define "gpu-inference.presets.paths" -}}
{{- $preset := . }}
{{- range list "parallel" "pipelined" "fractional" "dated" }}{{- $_ := set $preset . false }}{{ end }}
{{- $takes := dict "source" "" "servedName" "" "tokenSecret" "" "weightsDtype" "" "parametersBillion" "" }}
{{- range .files }}
  {{- range regexFindAll "[{]model[.][a-zA-Z]+[}]" . -1 }}{{- $_ := set $takes (trimAll "{}" . | trimPrefix "model.") "" }}{{ end }}
{{- end }}
{{- $_ := set $preset "takes" $takes }}
{{- $_ := set $preset "probesName" (contains "{servedName}" (toJson .probes)) }}
{{- $entries := list }}
{{- $_ := set $preset "told" dict }}
{{- with .metrics }}{{- if hasKey . "since" }}{{- $_ := set $preset "dated" true }}{{ end }}{{ end }}
{{- range .args }}{{ $entries = append $entries . }}{{ end }}
{{- range .env }}{{ $entries = append $entries . }}{{ end }}
{{- range $entries }}
  {{- if eq (toString .from) "parallelism.tensor" }}{{- $_ := set $preset "parallel" true }}{{ end }}
  {{- if eq (toString .from) "parallelism.pipeline" }}{{- $_ := set $preset "pipelined" true }}{{ end }}
  {{- if eq (toString .from) "accelerator.memoryFraction" }}{{- $_ := set $preset "fractional" true }}{{ end }}
{{- end }}
{{- /* What only a group of pods is told does not tell a single one. */}}
{{- with .engine }}
  {{- with .args }}{{ $entries = concat $entries . }}{{ end }}
  {{- range .steps }}{{ $entries = concat $entries .args }}{{ end }}
{{- end }}
{{- with .multiNode }}
  {{- if hasKey . "since" }}{{- $_ := set $preset "dated" true }}{{ end }}
  {{- $entries = concat $entries .args .workerArgs }}
{{- end }}
{{- range $entries }}
  {{- $_ := set . "bounded" (or (hasKey . "since") (hasKey . "until")) }}
  {{- if .bounded }}{{- $_ := set $preset "dated" true }}{{ end }}
  {{- if hasKey . "from" }}
    {{- $path := splitList "." .from }}
    {{- $_ := set . "section" (first $path) }}
    {{- $_ := set . "field" (last $path) }}
    {{- if eq .section "model" }}{{- $_ := set $takes .field "" }}{{ end }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.presets.known lists the names there are. Takes {root, kind}.
*/}}
{{- define "gpu-inference.presets.known" -}}
{{- $names := keys (index .root.Values .kind) }}
{{- range $path, $_ := .root.Files.Glob (printf "%s/*.yaml" .kind) }}
  {{- $names = append $names (trimSuffix ".yaml" (base $path)) }}
{{- end }}
{{- $names | uniq | sortAlpha | join ", " }}
{{- end }}
