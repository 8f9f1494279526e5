{{/*
gpu-inference.check.scaling: of models with an autoscaler.
*/}}
{{- define "gpu-inference.check.scaling" -}}
{{- $path := printf "models.%s.autoscaling" .name }}
{{- $scaling := .spec.autoscaling }}
{{- $keda := eq $scaling.provider "keda" }}
{{- if lt (int64 $scaling.maxReplicas) (int64 $scaling.minReplicas) }}
{{ $path }}.maxReplicas: {{ int64 $scaling.maxReplicas }} is less than minReplicas, {{ int64 $scaling.minReplicas }}. Fix: raise maxReplicas or lower minReplicas.
{{- end }}
{{- if and (not $keda) (eq (int64 $scaling.minReplicas) 0) }}
{{ $path }}.minReplicas: a HorizontalPodAutoscaler stops at 0 pods for ever, unless the cluster has the feature gate HPAScaleToZero. Fix: set it to 1, or provider to keda.
{{- end }}
{{- if not (or .signals $scaling.metrics) }}
  {{- if not (and $keda $scaling.keda.triggers) }}
{{ $path }}.target: names nothing to scale by. Fix: set requestsInFlight.
  {{- end }}
{{- end }}
{{- $ours := false }}
{{- range .signals }}
  {{- template "gpu-inference.check.signal" (dict "model" $ "signal" . "path" $path) }}
  {{- if and .name (has .type (list "External" "Object")) }}{{ $ours = true }}{{ end }}
{{- end }}
{{- if $ours }}
  {{- with .runtime.metrics.since }}
    {{- if and $.spec.runtimeVersion (semverCompare (printf "<%s-0" .) $.spec.runtimeVersion) }}
{{ $path }}.enabled: {{ $.spec.runtime }} {{ $.spec.runtimeVersion }} has no metric of requests in flight. Fix: use {{ . }} or newer, or set it to false.
    {{- end }}
  {{- end }}
{{- end }}
{{- if or $scaling.metrics $scaling.target.cpuUtilization }}{{ template "gpu-inference.check.metrics" (dict "model" . "path" $path) }}{{ end }}
{{- if $keda }}{{ template "gpu-inference.check.keda" (dict "model" . "path" (print $path ".keda")) }}{{ end }}
{{- end }}

{{/*
gpu-inference.check.signal: a metric that does not exist leaves the autoscaler blind. Takes {model, signal, path}.
*/}}
{{- define "gpu-inference.check.signal" -}}
{{- $m := .model }}
{{- $key := .signal.key }}
{{- $runtime := $m.spec.runtime }}
{{- if eq .signal.type "Resource" }}
{{- else if and (eq $key "requestsInFlight") (not .signal.name) }}
{{ .path }}.enabled: {{ $runtime }} has no metric of requests in flight. Fix: set it to false, or target.requestsInFlight, or define runtimes.{{ $runtime }}.metrics.inFlight.
{{- else if not .signal.name }}
  {{- $source := printf "runtimes.%s.metrics" $runtime }}
  {{- if eq $key "gpuUtilization" }}{{ $source = printf "accelerators.%s.utilization" $m.spec.accelerator.type }}{{ end }}
{{ .path }}.target.{{ $key }}: no series of it is known. Fix: remove it, or define it in {{ $source }}.
{{- else if eq $key "gpuUtilization" }}
  {{- if eq $m.spec.autoscaling.provider "keda" }}
{{ .path }}.target.gpuUtilization: its series do not say which model they are of, which KEDA would have to know. Fix: remove it, or set provider to hpa.
  {{- end }}
{{- else }}
  {{- range $label, $from := .signal.selector }}
    {{- $value := include "gpu-inference.args.at" (dict "spec" $m.spec "path" $from) }}
    {{- if or (gt (len $value) 63) (not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$" $value)) }}
models.{{ $m.name }}.{{ $from }}: {{ toJson $value }} selects the metric and so has to be a valid label value. Fix: use letters, digits, "-", "_" and ".", at most 63.
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.metrics: entries that the API server takes and the autoscaler cannot read. Takes {model, path}.
*/}}
{{- define "gpu-inference.check.metrics" -}}
{{- $scaling := .model.spec.autoscaling }}
{{- if and $scaling.metrics (eq $scaling.provider "keda") }}
{{ .path }}.metrics: a ScaledObject takes none. Fix: write them as keda.triggers.
{{- end }}
{{- range $index, $metric := $scaling.metrics }}
  {{- $section := untitle .type }}
  {{- if not (hasKey . $section) }}
{{ $.path }}.metrics[{{ $index }}]: a metric of type {{ .type }} is described under {{ $section }}. Fix: write it there.
  {{- else if hasSuffix "Resource" .type }}
    {{- $name := get (index . $section) "name" }}
    {{- if not (has $name (list "cpu" "memory")) }}
{{ $.path }}.metrics[{{ $index }}].{{ $section }}.name: the resource metrics API knows cpu and memory, not {{ toJson $name }}. Fix: use target.gpuUtilization for GPUs.
    {{- end }}
  {{- end }}
{{- end }}
{{- if get $scaling.target "cpuUtilization" }}
  {{- range get .model.spec.pod "initContainers" | default list }}
    {{- if and (eq (toString .restartPolicy) "Always") (not (dig "resources" "requests" "cpu" "" .)) }}
models.{{ $.model.name }}.pod.initContainers: {{ .name }} requests no CPU, and so no share of what the pod requests can be computed. Fix: set its resources.requests.cpu.
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.keda. Takes {model, path}.
*/}}
{{- define "gpu-inference.check.keda" -}}
{{- $scaling := .model.spec.autoscaling }}
{{- $keda := $scaling.keda }}
{{- $asked := false }}
{{- range .model.signals }}{{ if ne .type "Resource" }}{{ $asked = true }}{{ end }}{{ end }}
{{- if and $asked (not (get $keda "serverAddress")) }}
{{ .path }}.serverAddress: is not set. Fix: set it to the URL of Prometheus.
{{- end }}
{{- if not (or $asked $keda.triggers) }}
{{ .path }}.triggers: the fallback needs a trigger that is not of CPU or memory. Fix: set target.requestsInFlight, or add one.
{{- end }}
{{- $least := int64 $scaling.minReplicas }}
{{- if and (hasKey $keda "idleReplicas") (eq $least 0) }}
{{ .path }}.idleReplicas: 0 is not less than minReplicas, {{ $least }}. Fix: remove it, or raise minReplicas.
{{- else if or (hasKey $keda "idleReplicas") (eq $least 0) }}
  {{- $load := int64 .model.spec.startup.loadSeconds }}
  {{- if not $keda.scaleToZero }}
{{ .path }}.scaleToZero: nothing holds the first requests while a model loads from 0 pods: they fail. Fix: set it to true where that is right, for batches and queues, or minReplicas to 1.
  {{- end }}
  {{- if not $keda.triggers }}
{{ .path }}.triggers: the model's own metrics go with its pods, so nothing would wake it. Fix: add one on what is in front of it, the queue of a gateway.
  {{- end }}
  {{- if le (int64 $keda.cooldownPeriod) $load }}
{{ .path }}.cooldownPeriod: {{ int64 $keda.cooldownPeriod }} s is no longer than loading, {{ $load }} s: the model would come and go. Fix: raise it.
  {{- end }}
{{- end }}
{{- end }}
