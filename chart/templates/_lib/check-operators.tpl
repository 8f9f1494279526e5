{{/*
gpu-inference.check.operated: of models whose pods an operator makes.
*/}}
{{- define "gpu-inference.check.operated" -}}
{{- $m := . }}
{{- $s := .spec }}
{{- $kind := $s.workload }}
{{- $path := printf "models.%s" .name }}
{{- if not (hasKey .runtime .kind.operated) }}
{{ $path }}.workload: {{ $s.runtime }} is no server for a {{ $kind }}. Fix: set it to Deployment, or define runtimes.{{ $s.runtime }}.{{ .kind.operated }}.
{{- end }}
{{- range .kind.none }}
  {{- $value := $s }}
  {{- range splitList "." . }}{{ $value = get $value . }}{{ end }}
  {{- if $value }}
{{ $path }}.{{ . }}: a {{ $kind }} has nothing like it. Fix: remove it, or set workload to Deployment.
  {{- end }}
{{- end }}
{{- if $s.autoscaling.enabled }}{{ template "gpu-inference.check.scaling" . }}{{ end }}
{{- if and $s.autoscaling.enabled (ne $s.autoscaling.provider "hpa") }}
{{ $path }}.autoscaling.provider: a {{ $kind }} brings an autoscaler of its own. Fix: set it to hpa.
{{- end }}
{{- if eq .kind.operated "nimService" }}
  {{- template "gpu-inference.check.ngc" (dict "model" . "path" $path) }}
{{- else }}
  {{- range list "importPath" "deployment" }}
    {{- if not (get $s.rayService .) }}
{{ $path }}.rayService.{{ . }}: is not set. Fix: set it, as it is in the image.
    {{- end }}
  {{- end }}
  {{- range .signals }}
    {{- if ne .key "requestsInFlight" }}
{{ $path }}.autoscaling.target.{{ .key }}: Ray scales by requests in flight only. Fix: remove it, and set requestsInFlight.
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.ngc. Takes {model, path}.
*/}}
{{- define "gpu-inference.check.ngc" -}}
{{- $s := .model.spec }}
{{- $own := $s.nimService }}
{{- if not $own.authSecret }}
{{ .path }}.nimService.authSecret: is not set. Fix: name the Secret with NGC_API_KEY.
{{- end }}
{{- if not $own.cache }}
{{ .path }}.nimService.cache: is not set, and every pod would download the model. Fix: set its size and accessMode.
{{- else if and (eq $own.cache.accessMode "ReadWriteOnce") (gt (include "gpu-inference.workload.mostPods" .model | int64) 1) }}
{{ .path }}.nimService.cache.accessMode: one node can mount it at a time, and several pods share it. Fix: set it to ReadWriteMany.
{{- end }}
{{- if not (hasPrefix "image://" $s.model.source) }}
{{ .path }}.model.source: the operator downloads what belongs to the image. Fix: set it to image://.
{{- end }}
{{- if and (not $s.autoscaling.enabled) (eq (int64 $s.replicas) 0) }}
{{ .path }}.replicas: a NIMService has one pod at least. Fix: raise it.
{{- end }}
{{- if $s.rollout.spareGPU }}
{{ .path }}.rollout.spareGPU: the operator takes an old pod away before it brings a new one. Fix: set it to false.
{{- end }}
{{- end }}
