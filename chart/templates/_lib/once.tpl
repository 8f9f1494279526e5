{{/*
gpu-inference.once.text prints what a template makes of a model, and makes it only once for all models that are alike in what it
reads: of one base, and with the same `of`, a list of all that it reads besides. Takes {m, name, of}.
*/}}
{{- define "gpu-inference.once.text" -}}
{{- $texts := .m.store.texts }}
{{- $key := print .name .m.base (toJson .of) }}
{{- if not (hasKey $texts $key) }}{{- $_ := set $texts $key (include .name .m) }}{{ end }}
{{- index $texts $key }}
{{- end }}
