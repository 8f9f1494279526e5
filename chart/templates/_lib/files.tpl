{{/*
gpu-inference.files.data: the runtime's files, for one model, as a ConfigMap's data. `{section.field}` stands for the text at
that path of the spec.
*/}}
{{- define "gpu-inference.files.data" -}}
{{- $spec := .spec }}
{{- range $name, $text := .runtime.files }}
  {{- range regexFindAll "[{][a-zA-Z]+[.][a-zA-Z]+[}]" $text -1 | uniq }}
    {{- $text = $text | replace . (include "gpu-inference.args.at" (dict "spec" $spec "path" (trimAll "{}" .))) }}
  {{- end }}
{{ $name }}: {{ toJson $text }}
{{- end }}
{{- end }}
