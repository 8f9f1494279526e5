{{/*
gpu-inference.args.list renders the runtime's arguments for a model, then extraArgs, as list items.
An entry is {flag, from | value, joiner, since, until}: `from` is a "section.field" of the spec, and an entry whose field is
unset, empty or false is left out; true renders the flag alone; with a joiner, flag and value are one argument.
*/}}
{{- define "gpu-inference.args.list" }}
{{- $spec := .spec }}
{{- $version := toString .spec.runtimeVersion }}
{{- if not (hasKey .runtime.told $version) }}{{- template "gpu-inference.args.prepare" (dict "runtime" .runtime "version" $version) }}{{ end }}
{{- range index .runtime.told $version }}
  {{- if .text }}{{ .text }}
  {{- else }}
    {{- $value := index $spec .section .field }}
    {{- if or $value .zero }}
      {{- if .joiner }}
            - {{ print .flag .joiner (include "gpu-inference.args.text" $value) | toJson }}
      {{- else if kindIs "string" $value }}{{ .head }}{{ toJson $value }}
      {{- else if kindIs "bool" $value }}
            - {{ .flag }}
      {{- else }}{{ .head }}{{ toJson $value | quote }}
      {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
{{- range $spec.extraArgs }}
            - {{ include "gpu-inference.args.text" . | toJson }}
{{- end }}
{{- end }}

{{/*
gpu-inference.args.prepare puts into .runtime.told what all models are told by one version of a server, once: its arguments
without those of other versions, as text where it is the same for every model. Takes {runtime, version}.
*/}}
{{- define "gpu-inference.args.prepare" -}}
{{- $told := list }}
{{- $text := "" }}
{{- range .runtime.args }}
  {{- $head := "\n            - " }}
  {{- if and .flag (not .joiner) }}{{ $head = print $head .flag $head }}{{ end }}
  {{- if not (include "gpu-inference.args.applies" (dict "arg" . "version" $.version)) }}
  {{- else if .section }}
    {{- /* Of seconds none is an answer; of all else 0 is not set. */}}
    {{- if $text }}{{ $told = append $told (dict "text" $text) }}{{ $text = "" }}{{ end }}
    {{- $told = append $told (merge (dict "head" $head "zero" (eq .section "drain")) .) }}
  {{- else if kindIs "bool" .value }}
    {{- if .value }}{{ $text = print $text "\n            - " .flag }}{{ end }}
  {{- else }}
    {{- $value := include "gpu-inference.args.text" .value }}
    {{- if .joiner }}{{ $value = print .flag .joiner $value }}{{ end }}
    {{- $text = print $text $head (toJson $value) }}
  {{- end }}
{{- end }}
{{- if $text }}{{ $told = append $told (dict "text" $text) }}{{ end }}
{{- $_ := set .runtime.told .version $told }}
{{- end }}

{{/*
gpu-inference.args.text is the one place that turns a value into text: integers stay integers, whatever they were read from.
*/}}
{{- define "gpu-inference.args.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{/*
gpu-inference.args.applies is empty when the argument is not one of this version of the server. Takes {arg, version}.
*/}}
{{- define "gpu-inference.args.applies" -}}
{{- $ok := true }}
{{- with .arg.since }}{{ $ok = semverCompare (printf ">=%s-0" .) $.version }}{{ end }}
{{- with .arg.until }}{{ $ok = and $ok (semverCompare (printf "<%s-0" .) $.version) }}{{ end }}
{{- if $ok }}yes{{ end }}
{{- end }}

{{/*
gpu-inference.args.at is the text at a path of the spec. Takes {spec, path}.
*/}}
{{- define "gpu-inference.args.at" -}}
{{- $value := .spec }}
{{- range splitList "." .path }}{{ $value = index $value . }}{{ end }}
{{- template "gpu-inference.args.text" $value }}
{{- end }}
