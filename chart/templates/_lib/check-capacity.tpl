{{/*
gpu-inference.check.mixed: of a model with an on-demand base and spot pods above it. Takes .burst of it.
*/}}
{{- define "gpu-inference.check.mixed" -}}
{{- $path := printf "models.%s" .name }}
{{- $scaling := .spec.autoscaling }}
{{- $base := int64 .spec.replicas }}
{{- if not (hasKey .cloud "spot") }}
{{ $path }}.capacity: how {{ .root.Values.cloud }} marks spot nodes is not known. Fix: set cloud to the one this is, or clouds.{{ .root.Values.cloud }}.spot.
{{- end }}
{{- if ne .spec.workload "Deployment" }}
{{ $path }}.workload: a {{ .spec.workload }} has one kind of pods, and mixed needs two. Fix: set it to Deployment, or capacity to onDemand or spot.
{{- end }}
{{- if not $scaling.enabled }}
{{ $path }}.autoscaling.enabled: is false, and the spot pods above the base are the autoscaler's. Fix: set it to true, or capacity to onDemand or spot.
{{- else if le (int64 $scaling.maxReplicas) $base }}
{{ $path }}.autoscaling.maxReplicas: {{ int64 $scaling.maxReplicas }} leaves no spot pod above the on-demand base, replicas, {{ $base }}. Fix: raise it, or set capacity to onDemand.
{{- end }}
{{- if eq $scaling.provider "keda" }}
{{ $path }}.autoscaling.provider: KEDA does not know of the on-demand base. Fix: set it to hpa, or capacity to onDemand or spot.
{{- end }}
{{- if get $scaling.target "queueComputeRatio" }}
{{ $path }}.autoscaling.target.queueComputeRatio: does not tell what the on-demand base bears. Fix: set it to false, or capacity to onDemand or spot.
{{- end }}
{{- if lt $base 1 }}
{{ $path }}.replicas: is 0, and is the on-demand base. Fix: set it to 1 or more, or capacity to spot.
{{- end }}
{{- range $name, $toleration := .spec.tolerations }}
  {{- if not (or $toleration.key (hasKey $.onDemand.tolerations $name)) }}
{{ $path }}.tolerations.{{ $name }}: has no key, so it covers every taint, also those that drain a node. Fix: name the taint's key.
  {{- end }}
{{- end }}
{{- template "gpu-inference.check.sibling" (dict "m" . "suffix" "spot") }}
{{- end }}

{{- define "gpu-inference.check.balloon" -}}
{{- if .spec.accelerator.dra }}
models.{{ .name }}.balloon.replicas: a pod whose GPUs are claimed is not preempted (kubernetes/enhancements#5690), so a balloon would not make room. Fix: set it to 0, or accelerator.dra to false.
{{- end }}
{{- $class := or (get .spec.balloon "priorityClassName") "balloon" }}
{{- with get .root.resolved.priorityClasses $class }}
  {{- $above := dig (get $.spec "priorityClassName") "value" 0 $.root.resolved.priorityClasses }}
  {{- if ge (int64 .value) (int64 $above) }}
models.{{ $.name }}.balloon: its priority, {{ int64 .value }}, is not below the model's, {{ int64 $above }}, so it would not make room. Fix: lower priorityClasses.{{ $class }}.value.
  {{- end }}
{{- end }}
{{- template "gpu-inference.check.sibling" (dict "m" . "suffix" "balloon") }}
{{- end }}

{{/*
gpu-inference.check.sibling: a second Deployment of a model needs a name. Takes {m, suffix}.
*/}}
{{- define "gpu-inference.check.sibling" -}}
{{- $name := printf "%s-%s" .m.name .suffix }}
{{- if hasKey .m.root.Values.models $name }}
models.{{ $name }}: the {{ .suffix }} pods of {{ .m.name }} have a Deployment of this name. Fix: rename one of the two.
{{- end }}
{{- end }}
