{{/*
gpu-inference.source.place sets what follows from model.source: .scheme; .fetch, who downloads it (pod, job, server, or empty);
.folder, where the chart downloads it to, one for each choice of files, so that nothing changes below a running server; .scratch,
whether a disk of the node holds it; .allow, patterns of its files; and in the spec model.path, or model.repository and
model.hubFile: what the server is told.
*/}}
{{- define "gpu-inference.source.place" -}}
{{- $s := .spec }}
{{- $source := $s.model.source }}
{{- if $s.engine.enabled }}{{ $source = include "gpu-inference.source.served" . }}{{ end }}
{{- $parts := splitList "://" $source }}
{{- $scheme := first $parts }}
{{- $rest := last $parts | trimSuffix "/" }}
{{- $download := $s.storage.download }}
{{- $file := get $s.model "file" }}
{{- $path := "" }}{{ $repository := "" }}{{ $fetch := "" }}{{ $folder := "" }}
{{- if eq $scheme "hf" "s3" "gs" "az" }}
  {{- $fetch = $download.by }}
  {{- /* It does so itself where it loads no folder, or where it is to choose the file. */}}
  {{- $itself := or (not (has "pvc" .runtime.modelSources)) (and .runtime.modelFile (not $file) (eq $scheme "hf")) }}
  {{- if and (eq $fetch "pod") $itself }}{{ $fetch = "server" }}{{ end }}
  {{- if eq $fetch "server" }}
    {{- $repository = $rest }}
  {{- else }}
    {{- template "gpu-inference.source.folder" . }}
    {{- $folder = .folder }}
    {{- $path = print $folder "/" $rest }}
  {{- end }}
{{- else if eq $scheme "pvc" }}
  {{- $path = print "/models" (trimPrefix (splitList "/" $rest | first) $rest) }}
{{- else if eq $scheme "oci" "hostPath" }}
  {{- $path = "/models" }}
{{- end }}
{{- if and $file $path }}{{ $path = print $path "/" $file }}{{ end }}
{{- $_ := set $s.model "path" $path }}
{{- $_ := set $s.model "repository" $repository }}
{{- $_ := set $s.model "hubFile" (ternary $file "" (ne $repository "")) }}
{{- $_ := set . "scheme" $scheme }}
{{- $_ := set . "rest" $rest }}
{{- $_ := set . "fetch" $fetch }}
{{- $_ := set . "folder" $folder }}
{{- $_ := set . "scratch" (and $fetch (not (or (hasKey $s.claims "cache") (hasKey $download "claim")))) }}
{{- end }}

{{/*
gpu-inference.source.folder sets .allow and .folder of what the chart downloads.
*/}}
{{- define "gpu-inference.source.folder" -}}
{{- $model := .spec.model }}
{{- $download := .spec.storage.download }}
{{- $file := get $model "file" }}
{{- $allow := $download.allow }}
{{- if and $file (not $allow) }}{{ $allow = list $file (print $file "/*") }}{{ end }}
{{- $_ := set . "allow" $allow }}
{{- $choice := printf "%s\n%s\n%s\n%s\n%s\n%t" $model.source (get $model "revision") $file $download.allow $download.ignore $download.pickles }}
{{- $_ := set . "folder" (sha256sum $choice | trunc 12 | print "/cache/") }}
{{- end }}

{{/*
gpu-inference.source.served: beside an engine instead of the model, the server needs no more than what that is built from.
*/}}
{{- define "gpu-inference.source.served" -}}
{{- $own := "" }}
{{- if dig "engine" "replacesModel" false .runtime }}{{ $own = get .spec.engine "source" }}{{ end }}
{{- $own | default .spec.model.source }}
{{- end }}

{{/*
gpu-inference.source.volume is what is mounted at /models, empty when nothing is.
*/}}
{{- define "gpu-inference.source.volume" -}}
{{- if eq .scheme "pvc" -}}
persistentVolumeClaim: {claimName: {{ splitList "/" .rest | first }}, readOnly: true}
{{- else if eq .scheme "oci" -}}
image: {reference: {{ toJson .rest }}, pullPolicy: {{ .spec.image.pullPolicy }}}
{{- else if eq .scheme "hostPath" -}}
hostPath: {path: {{ toJson .rest }}, type: Directory}
{{- end }}
{{- end }}
