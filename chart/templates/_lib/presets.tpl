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
    {{- end }}
    {{- $_ := set $known .name $preset }}
    {{- include "gpu-inference.presets.paths" $preset }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.presets.paths splits each `from`, "section.field", once, so that no model has to, and notes whether the server
is told to shard the model (.parallel) and to do so by layers (.pipelined), and whether any of it depends on its version
(.dated).
*/}}
{{- define "gpu-inference.presets.paths" -}}
{{- $preset := . }}
{{- range list "parallel" "pipelined" "dated" }}{{- $_ := set $preset . false }}{{ end }}
{{- $entries := list }}
{{- with .metrics }}{{- if hasKey . "since" }}{{- $_ := set $preset "dated" true }}{{ end }}{{ end }}
{{- range .args }}{{ $entries = append $entries . }}{{ end }}
{{- range .env }}{{ $entries = append $entries . }}{{ end }}
{{- range $entries }}
  {{- $_ := set . "bounded" (or (hasKey . "since") (hasKey . "until")) }}
  {{- if .bounded }}{{- $_ := set $preset "dated" true }}{{ end }}
  {{- if hasKey . "from" }}
    {{- $path := splitList "." .from }}
    {{- $_ := set . "section" (first $path) }}
    {{- $_ := set . "field" (last $path) }}
    {{- if eq .from "parallelism.tensor" }}{{- $_ := set $preset "parallel" true }}{{ end }}
    {{- if eq .from "parallelism.pipeline" }}{{- $_ := set $preset "pipelined" true }}{{ end }}
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
