{{/*
gpu-inference.scaling.signals sets .signals, what the autoscaler goes by, always in the same order: a list of {key of the target,
type of the metric, name, series, query, selector, value}. One whose name is empty has no series.
*/}}
{{- define "gpu-inference.scaling.signals" -}}
{{- $target := .spec.autoscaling.target }}
{{- $key := print .base (toJson $target) }}
{{- if not (hasKey .store.signals $key) }}
  {{- $known := fromJson (include "gpu-inference.scaling.known" .) }}
  {{- $signals := list }}
  {{- range list "cpuUtilization" "memoryUtilization" "gpuUtilization" "queueComputeRatio" "requestsWaiting" "kvCacheUsage" "requestsInFlight" }}
    {{- if get $target . }}
      {{- $type := ternary "Object" "External" (eq . "queueComputeRatio") }}
      {{- $signals = append $signals (merge (dict "key" . "value" (get $target .)) (index $known .) (dict "type" $type "name" "")) }}
    {{- end }}
  {{- end }}
  {{- $_ := set .store.signals $key $signals }}
{{- end }}
{{- $_ := set . "signals" (index .store.signals $key) }}
{{- end }}

{{/*
gpu-inference.scaling.known is what models of one runtime and accelerator can be scaled by, as JSON: key -> signal.
*/}}
{{- define "gpu-inference.scaling.known" -}}
{{- $metrics := .runtime.metrics }}
{{- $names := dig "names" dict $metrics }}
{{- $known := dict
      "cpuUtilization" (dict "type" "Resource" "name" "cpu")
      "memoryUtilization" (dict "type" "Resource" "name" "memory")
      "gpuUtilization" (dict "type" "Pods" "name" (get .accelerator "utilization"))
      "queueComputeRatio" (get $metrics "queueComputeRatio" | default dict)
      "requestsInFlight" (get $metrics "inFlight" | default dict) }}
{{- range $key, $name := dict "requestsWaiting" "waiting" "kvCacheUsage" "kvCacheUsage" }}
  {{- $series := get $names $name }}
  {{- $query := printf "sum(%s{<<.LabelMatchers>>})" $series }}
  {{- /* A colon is legal in a series, not in the path of a metrics API. */}}
  {{- $_ := set $known $key (dict "name" ($series | replace ":" "_" | trimPrefix "_") "query" $query) }}
{{- end }}
{{- toJson $known }}
{{- end }}

{{/*
gpu-inference.scaling.metrics: entries of a HorizontalPodAutoscaler. Takes {model, base: pods that are not the target's}.
*/}}
{{- define "gpu-inference.scaling.metrics" }}
{{- $m := .model }}
{{- range .model.signals }}
  {{- if eq .type "Resource" }}
    - {type: Resource, resource: {name: {{ .name }}, target: {type: Utilization, averageUtilization: {{ int64 .value }}}}}
  {{- else }}
    - type: {{ .type }}
      {{ lower .type }}:
        metric:
          name: {{ .name }}
          {{- if eq .type "External" }}
          selector:
            matchLabels:
              app_kubernetes_io_instance: {{ $m.root.Release.Name | quote }}
              gpu_inference_io_model: {{ $m.name }}
              {{- range $label, $path := .selector }}
              {{ $label }}: {{ include "gpu-inference.args.at" (dict "spec" $m.spec "path" $path) | toJson }}
              {{- end }}
            {{- if $.base }}
            {{- /* What the base bears, which the adapter's rule subtracts. No series has this label. */}}
            matchExpressions:
              - {key: gpu_inference_io_base_requests, operator: NotIn, values: [{{ mulf $.base .value | toString | toJson }}]}
            {{- end }}
          {{- end }}
        {{- if eq .type "Object" }}
        describedObject: {apiVersion: v1, kind: Service, name: {{ $m.fullname }}}
        {{- end }}
        target: {type: AverageValue, averageValue: "{{ template "gpu-inference.scaling.quantity" .value }}"}
  {{- end }}
{{- end }}
{{- range .model.spec.autoscaling.metrics }}
    - {{ toJson . }}
{{- end }}
{{- end }}

{{/*
gpu-inference.scaling.quantity writes a number as the API server does, so that nothing sees a difference.
*/}}
{{- define "gpu-inference.scaling.quantity" -}}
{{- if eq (float64 .) (floor .) }}{{ int64 . }}{{ else }}{{ round (mulf . 1000) 0 | int64 }}m{{ end }}
{{- end }}

{{/*
gpu-inference.scaling.promql is a signal's query for Prometheus itself. Takes {model, signal}.
*/}}
{{- define "gpu-inference.scaling.promql" -}}
{{- $labels := dict "app_kubernetes_io_instance" .model.root.Release.Name "gpu_inference_io_model" .model.name }}
{{- $matchers := list (printf "namespace=%s" (toJson .model.root.Release.Namespace)) }}
{{- range $label, $path := .signal.selector }}
  {{- $_ := set $labels $label (include "gpu-inference.args.at" (dict "spec" $.model.spec "path" $path)) }}
{{- end }}
{{- range $label, $value := $labels }}{{ $matchers = append $matchers (printf "%s=%s" $label (toJson $value)) }}{{ end }}
{{- .signal.query | replace "<<.LabelMatchers>>" ($matchers | join ",") | replace "<<.GroupBy>>" "namespace" }}
{{- end }}
