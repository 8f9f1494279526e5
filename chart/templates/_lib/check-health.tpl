{{/*
gpu-inference.check.health: of models whose health is looked at by more than the runtime's own probes.
*/}}
{{- define "gpu-inference.check.health" -}}
{{- $path := printf "models.%s" .name }}
{{- $s := .spec }}
{{- $scaling := $s.autoscaling }}
{{- if and $s.warmup.enabled (ne (get $s.canary "request" | default .runtime.canary).method "POST") }}
{{ $path }}.warmup.enabled: the canary of {{ $s.runtime }} asks for no work of the model. Fix: set canary.request to a request that does.
{{- end }}
{{- if and .scripts (hasKey .runtime "python") (not .runtime.python) }}
{{ $path }}.{{ ternary "warmup.enabled" "progress" $s.warmup.enabled }}: the image of {{ $s.runtime }} has no Python to run it in. Fix: set it to false, or runtimes.{{ $s.runtime }}.python with an image that has it.
{{- end }}
{{- if and (or $s.progress.readiness $s.progress.liveness) (not (and (get .runtime.metrics "progress") (get .runtime.metrics.names "running"))) }}
{{ $path }}.progress: {{ $s.runtime }} has no metric that tells it. Fix: set both to false, or runtimes.{{ $s.runtime }}.metrics.progress and names.running.
{{- end }}
{{- if and $s.canary.enabled (gt (len .fullname) 45) }}
{{ $path }}.canary.enabled: "{{ .fullname }}" is {{ len .fullname }} characters long, and at most 45 fit into the name of a CronJob. Fix: shorten the model's name or set fullnameOverride.
{{- end }}
{{- if and $s.canary.enabled $scaling.enabled (eq $scaling.provider "keda") (or (eq (int64 $scaling.minReplicas) 0) (hasKey $scaling.keda "idleReplicas")) }}
{{ $path }}.canary.enabled: its requests fail, or wake the model, while the autoscaler has it at 0 pods. Fix: set it to false, or autoscaling.minReplicas to 1 without keda.idleReplicas.
{{- end }}
{{- $monitoring := $s.monitoring }}
{{- if and $monitoring.dashboard (not $monitoring.rules.enabled) }}
{{ $path }}.monitoring.dashboard: shows what monitoring.rules records, which is off. Fix: set monitoring.rules.enabled to true.
{{- end }}
{{- if $monitoring.serviceMonitor.enabled }}
  {{- if $monitoring.podMonitor.enabled }}
{{ $path }}.monitoring.serviceMonitor.enabled: the PodMonitor scrapes the pods already, and twice would count double. Fix: set one of the two to false.
  {{- end }}
  {{- if hasKey .root.Values.models (print .name "-metrics") }}
models.{{ .name }}-metrics: the Service of the metrics of {{ .name }} has this name. Fix: rename one of the two.
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.canary: of models with a request of their own.
*/}}
{{- define "gpu-inference.check.canary" -}}
{{- $expect := .spec.canary.request.expect }}
{{- if and (hasKey $expect "min") (hasKey $expect "max") }}
  {{- if gt (float64 $expect.min) (float64 $expect.max) }}
models.{{ .name }}.canary.request.expect.max: no answer can be {{ $expect.min }} or more and {{ $expect.max }} or less. Fix: make max the larger one.
  {{- end }}
{{- end }}
{{- end }}
