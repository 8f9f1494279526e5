{{/*
gpu-inference.args.list renders the runtime's arguments for a model, then extraArgs, as list items.
An entry is {flag, from | value, joiner, since, until}: `from` is a "section.field" of the spec, and an entry whose field is
unset, empty or false is left out; true renders the flag alone; with a joiner, flag and value are one argument.
*/}}
{{- define "gpu-inference.args.list" }}
{{- $spec := .spec }}
{{- $version := .spec.runtimeVersion }}
{{- range .runtime.args }}
  {{- $value := .value }}
  {{- if .section }}{{ $value = get (index $spec .section) .field }}{{ end }}
  {{- if kindIs "bool" $value }}
    {{- if $value }}
            - {{ .flag }}
    {{- end }}
  {{- else if ne (toString $value) "" }}
    {{- if and .bounded (not (hasKey . $version)) }}
      {{- $_ := set . $version (include "gpu-inference.args.applies" (dict "arg" . "version" $version)) }}
    {{- end }}
    {{- if or (not .bounded) (get . $version) }}
      {{- $text := include "gpu-inference.args.text" $value }}
      {{- if .joiner }}
            - {{ print .flag .joiner $text | toJson }}
      {{- else }}
        {{- if .flag }}
            - {{ .flag }}
        {{- end }}
            - {{ toJson $text }}
      {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
{{- range $spec.extraArgs }}
            - {{ include "gpu-inference.args.text" . | toJson }}
{{- end }}
{{- end }}

{{/*
gpu-inference.args.text is the one place that turns a value into text: integers stay integers, whatever they were read from.
*/}}
{{- define "gpu-inference.args.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{/*
gpu-inference.args.applies is empty when the argument is not one of this version of the server. Takes {arg, version}; asked
once a version, the argument remembers the answer.
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
{{- include "gpu-inference.args.text" $value }}
{{- end }}
