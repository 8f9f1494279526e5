{{/*
gpu-inference.check.source: what the runtime is asked for it must be able to do. What it has no argument for would be dropped in
silence.
*/}}
{{- define "gpu-inference.check.source" -}}
{{- $source := .spec.model.source }}
{{- $scheme := splitList "://" $source | first }}
{{- $known := .runtime.modelSources }}
{{- $path := print "models." .name ".model" }}
{{- if not $source }}
{{ $path }}.source: is not set. Fix: set it to where the model lies, {{ $known | join ":// or " }}://….
{{- else if not (or (has $scheme $known) (and (has "pvc" $known) (has $scheme (list "s3" "gs" "az" "oci" "hostPath")))) }}
{{ $path }}.source: {{ toJson $source }} cannot be loaded by {{ .spec.runtime }}. Fix: use one of {{ $known | join "://, " }}://{{ if has "pvc" $known }}, s3://, gs://, az://, oci://, hostPath://{{ end }}.
{{- end }}
{{- $takes := .runtime.takes }}
{{- range $key, $_ := .values.model }}
  {{- if and (hasKey $takes $key) (ne $key "revision") }}
  {{- else if and (eq $key "revision") (ne $scheme "hf") }}
{{ $path }}.revision: only hf:// has revisions. Fix: remove it.
  {{- else if or (hasKey $.runtime.takes $key) (and (eq $key "revision") $.folder) (and (eq $key "file") (or $.spec.model.path (hasKey $.runtime.takes "hubFile"))) }}
  {{- else }}
{{ $path }}.{{ $key }}: {{ $.spec.runtime }} has no argument for it, and would serve as if it were not there. Fix: remove it, or define it in runtimes.{{ $.spec.runtime }}.
  {{- end }}
{{- end }}
{{- if or .fetch (eq .scheme "oci" "hostPath") }}{{ template "gpu-inference.check.storage" . }}{{ end }}
{{- end }}

{{/*
gpu-inference.check.storage: of models that are downloaded, or come in a volume that is no claim.
*/}}
{{- define "gpu-inference.check.storage" -}}
{{- $path := print "models." .name }}
{{- $by := ".storage.download.by" }}
{{- if and (eq .scheme "hostPath") (not .spec.security.allowHostPath) }}
{{ $path }}.model.source: hostPath:// breaks Pod Security, and shows the node's files to the pod. Fix: use another source, or set security.allowHostPath to true.
{{- end }}
{{- if and .runtime.modelFile (not (get .spec.model "file")) (ne .fetch "server") }}
{{ $path }}.model.file: is not set, and {{ .spec.runtime }} takes one file. Fix: name the {{ .runtime.modelFile }} file.
{{- end }}
{{- if and (eq .fetch "server") (ne .scheme "hf") }}
{{ $path }}{{ $by }}: {{ .spec.runtime }} downloads nothing from {{ .scheme }}:// itself. Fix: set it to pod or job.
{{- else if and .folder (not (has "pvc" .runtime.modelSources)) }}
{{ $path }}{{ $by }}: {{ .spec.runtime }} cannot load a folder. Fix: set it to server.
{{- end }}
{{- if .folder }}
  {{- if hasKey .spec.pod "initContainers" }}
{{ $path }}.pod.initContainers: would replace the download. Fix: remove it, or set storage.download.by to server.
  {{- end }}
  {{- template "gpu-inference.check.shared" . }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.shared: what a Job fills must be one claim, which it writes to and the pods read from.
*/}}
{{- define "gpu-inference.check.shared" -}}
{{- $cache := .spec.claims.cache }}
{{- $existing := hasKey .spec.storage.download "claim" }}
{{- $path := print "models." .name ".storage.download" }}
{{- if and $existing $cache }}
{{ $path }}.claim: claims.cache is made for the same. Fix: remove one of the two.
{{- else if and (eq .fetch "job") (not $existing) }}
  {{- if eq .spec.workload "StatefulSet" }}
{{ $path }}.by: each pod of a StatefulSet has claims of its own, which no Job can fill. Fix: set it to pod, or storage.download.claim.
  {{- else if not $cache }}
{{ $path }}.by: a Job needs a claim to download to. Fix: set claims.cache, at /cache with accessModes [ReadWriteMany], or storage.download.claim.
  {{- else if not (has "ReadWriteMany" $cache.accessModes) }}
models.{{ .name }}.claims.cache.accessModes: the Job writes while pods on other nodes read. Fix: set it to [ReadWriteMany].
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.names: names made of two parts may meet, `a` and `b-c` with `a-b` and `c`. All of a kind are noted in the store.
*/}}
{{- define "gpu-inference.check.names" -}}
{{- $names := list }}
{{- if ne .spec.workload "StatefulSet" }}
  {{- range $claim, $_ := .spec.claims }}{{ $names = append $names (list "PersistentVolumeClaim" (print $.name "-" $claim)) }}{{ end }}
{{- end }}
{{- if .spec.ingress.enabled }}
  {{- $names = append $names (list "Ingress" .name) }}
  {{- if hasKey .spec.ingress "grpcHost" }}{{ $names = append $names (list "Ingress" (print .name "-grpc")) }}{{ end }}
{{- end }}
{{- if .spec.networkPolicy.enabled }}
  {{- $names = append $names (list "NetworkPolicy" .name) }}
  {{- if eq .fetch "job" }}{{ $names = append $names (list "NetworkPolicy" (print .name "-download")) }}{{ end }}
{{- end }}
{{- if not (hasKey .store "names") }}{{- $_ := set .store "names" dict }}{{ end }}
{{- range $names }}
  {{- $key := join " " . }}
  {{- if hasKey $.store.names $key }}
models.{{ $.name }}: its {{ first . }} {{ last . }} is also one of {{ index $.store.names $key }}. Fix: rename one of the two models.
  {{- else }}
    {{- $_ := set $.store.names $key $.name }}
  {{- end }}
{{- end }}
{{- end }}
