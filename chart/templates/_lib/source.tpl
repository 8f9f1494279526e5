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
{{- $scheme := splitList "://" $source | first }}
{{- $rest := trimPrefix (print $scheme "://") $source | trimSuffix "/" }}
{{- $download := $s.storage.download }}
{{- $file := get $s.model "file" }}
{{- $path := "" }}{{ $repository := "" }}{{ $fetch := "" }}{{ $folder := "" }}
{{- if has $scheme (list "hf" "s3" "gs" "az") }}
  {{- $fetch = $download.by }}
  {{- /* It does so itself where it loads no folder, or where it is to choose the file. */}}
  {{- if eq $fetch "pod" }}
    {{- if or (not (has "pvc" .runtime.modelSources)) (and .runtime.modelFile (not $file) (eq $scheme "hf")) }}{{ $fetch = "server" }}{{ end }}
  {{- end }}
  {{- if eq $fetch "server" }}
    {{- $repository = $rest }}
  {{- else }}
    {{- $allow := $download.allow }}
    {{- if and $file (not $allow) }}{{ $allow = list $file (print $file "/*") }}{{ end }}
    {{- $_ := set . "allow" $allow }}
    {{- $choice := list $source (get $s.model "revision") $file (join " " $download.allow) (join " " $download.ignore) $download.pickles }}
    {{- $folder = join "\n" $choice | sha256sum | trunc 12 | print "/cache/" }}
    {{- $path = print $folder "/" $rest }}
  {{- end }}
{{- else if eq $scheme "pvc" }}
  {{- $path = print "/models" (trimPrefix (splitList "/" $rest | first) $rest) }}
{{- else if or (eq $scheme "oci") (eq $scheme "hostPath") }}
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
