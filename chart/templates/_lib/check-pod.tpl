{{- define "gpu-inference.check.network" -}}
{{- range $name, $port := .runtime.ports }}
  {{- if and (ne $name "http") (eq (int64 $port) (int64 $.spec.service.port)) }}
models.{{ $.name }}.service.port: {{ int64 $port }} is the {{ $name }} port of {{ $.spec.runtime }} already. Fix: use another one.
  {{- end }}
{{- end }}
{{- $account := .spec.serviceAccount }}
{{- if not (or $account.create (get $account "name")) }}
models.{{ .name }}.serviceAccount.name: is not set, and create is false. Fix: name an existing account, or let the chart create one.
{{- end }}
{{- end }}

{{/*
A flag given twice is taken once, and which one depends on the server.
*/}}
{{- define "gpu-inference.check.arguments" -}}
{{- if .spec.extraArgs }}
  {{- $flags := dict }}
  {{- $args := .runtime.args }}
  {{- if eq .spec.workload "LeaderWorkerSet" }}
    {{- with .runtime.multiNode }}{{ $args = concat $args .args .workerArgs }}{{ end }}
  {{- end }}
  {{- range $args }}
    {{- if hasKey . "flag" }}
      {{- $_ := set $flags .flag (ternary (printf "set %s instead" (get . "from" | replace "ports." (printf "runtimes.%s.ports." $.spec.runtime))) "remove it" (hasKey . "from")) }}
    {{- end }}
  {{- end }}
  {{- range $index, $arg := .spec.extraArgs }}
    {{- $flag := include "gpu-inference.args.text" $arg | splitList "=" | first }}
    {{- if hasKey $flags $flag }}
models.{{ $.name }}.extraArgs[{{ $index }}]: {{ $flag }} is set by the chart already. Fix: {{ index $flags $flag }}.
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "gpu-inference.check.labels" -}}
{{- range $label, $_ := .spec.podLabels }}
  {{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "gpu-inference.io/model") }}
models.{{ $.name }}.podLabels.{{ $label }}: is how the Service finds the pods. Fix: use another label.
  {{- end }}
{{- end }}
{{- end }}

{{- define "gpu-inference.check.env" -}}
{{- range list "NVIDIA_VISIBLE_DEVICES" "CUDA_VISIBLE_DEVICES" }}
  {{- if hasKey $.spec.env . }}
models.{{ $.name }}.env.{{ . }}: would bypass the GPUs that Kubernetes allocates to the pod. Fix: remove it and set accelerator.count.
  {{- end }}
{{- end }}
{{- end }}

{{- define "gpu-inference.check.resources" -}}
{{- range $what, $amounts := .spec.container.resources }}
  {{- if hasKey $amounts $.accelerator.resource }}
models.{{ $.name }}.container.resources.{{ $what }}.{{ $.accelerator.resource }}: would contradict accelerator.count. Fix: set accelerator.count instead.
  {{- end }}
{{- end }}
{{- if lt .sizes.limits .sizes.requests }}
models.{{ .name }}.resources.memory.limits: {{ .spec.resources.memory.limits }} is less than what is requested, {{ .spec.resources.memory.requests }}. Fix: raise it.
{{- end }}
{{- $cpu := .spec.resources.cpu }}
{{- if lt (float64 $cpu.limits) (float64 $cpu.requests) }}
models.{{ .name }}.resources.cpu.limits: {{ toJson $cpu.limits }} is less than what is requested, {{ toJson $cpu.requests }}. Fix: raise it.
{{- end }}
{{- end }}

{{- define "gpu-inference.check.volumes" -}}
{{- $paths := dict "/dev/shm" "shm" "/cache" "cache" "/models" "model" "/etc/gpu-inference" "files" "/opt/gpu-inference" "gpu-inference-scripts"
    "/downloader" "downloader" }}
{{- if .engine }}{{- $_ := set $paths "/engine" "engine" }}{{ end }}
{{- range $name, $dir := .spec.writable }}
  {{- $whole := and $dir.path $dir.sizeLimit }}
  {{- template "gpu-inference.check.mount" (dict "model" $.name "map" "writable" "name" $name "at" $dir.path "whole" $whole "needed" "path and sizeLimit" "paths" $paths) }}
{{- end }}
{{- range $name, $claim := .spec.claims }}
  {{- /* It may stand in for the chart's own cache. */}}
  {{- if not (and (eq $name "cache") (eq $claim.mountPath "/cache")) }}
    {{- template "gpu-inference.check.mount" (dict "model" $.name "map" "claims" "name" $name "at" $claim.mountPath "whole" true "needed" "" "paths" $paths) }}
  {{- end }}
{{- end }}
{{- range $name, $volume := .spec.volumes }}
  {{- $at := dig "mount" "mountPath" "" $volume }}
  {{- template "gpu-inference.check.mount" (dict "model" $.name "map" "volumes" "name" $name "at" $at "whole" (and $at $volume.source) "needed" "mount.mountPath and source" "paths" $paths) }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.mount: neither name nor path may be taken; both are noted. Takes {model, map, name, at, whole, needed, paths}.
*/}}
{{- define "gpu-inference.check.mount" -}}
{{- if not .whole }}
models.{{ .model }}.{{ .map }}.{{ .name }}: is not whole. Fix: set {{ .needed }}, or remove it with false.
{{- else if has .name (values .paths) }}
models.{{ .model }}.{{ .map }}.{{ .name }}: another volume has this name. Fix: use another one.
{{- else if hasKey .paths .at }}
models.{{ .model }}.{{ .map }}.{{ .name }}: {{ .at }} is where {{ index .paths .at }} is mounted. Fix: use another path.
{{- end }}
{{- if .at }}{{- $_ := set .paths .at .name }}{{ end }}
{{- end }}

{{/*
Lists are replaced by `pod` and `container`: these would drop what the server needs.
*/}}
{{- define "gpu-inference.check.pod" -}}
{{- with .spec.pod }}
  {{- if hasKey . "containers" }}
models.{{ $.name }}.pod.containers: would replace the server. Fix: use container to change it.
  {{- end }}
  {{- if hasKey . "volumes" }}
models.{{ $.name }}.pod.volumes: would replace the volumes the server needs. Fix: use volumes to add some.
  {{- end }}
{{- end }}
{{- with .spec.container }}
  {{- $container := . }}
  {{- range $list, $instead := dict "args" "extraArgs" "env" "env" "ports" "runtimes.<name>.ports" "volumeMounts" "volumes" }}
    {{- if hasKey $container $list }}
models.{{ $.name }}.container.{{ $list }}: would replace the list the server needs. Fix: use {{ $instead }}.
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}
