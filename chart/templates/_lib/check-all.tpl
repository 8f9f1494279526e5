{{/*
gpu-inference.check.models asks every model everything. Takes .resolved. `template` costs a quarter of `include`, and there are many.
*/}}
{{- define "gpu-inference.check.models" -}}
{{- range concat .models .operated }}{{ template "gpu-inference.check.model" . }}{{ end }}
{{- range .operated }}{{ template "gpu-inference.check.operated" . }}{{ end }}
{{- range .scaled }}{{ template "gpu-inference.check.scaling" . }}{{ end }}
{{- range .networked }}{{ template "gpu-inference.check.traffic" . }}{{ end }}
{{- range .engines }}{{ template "gpu-inference.check.engine" . }}{{ end }}
{{- range .watched }}{{ template "gpu-inference.check.health" . }}{{ end }}
{{- range .bursts }}{{ template "gpu-inference.check.mixed" . }}{{ end }}
{{- range .balloons }}{{ template "gpu-inference.check.balloon" . }}{{ end }}
{{- range .shared }}
  {{- template "gpu-inference.check.part" . }}
  {{- template "gpu-inference.check.share" . }}
  {{- template "gpu-inference.check.weights" . }}
  {{- template "gpu-inference.check.claim" . }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.model asks one model what every model is asked. What only depends on what it has in common with another model
is not asked again when there was nothing to say about that one.
*/}}
{{- define "gpu-inference.check.model" -}}
{{- template "gpu-inference.check.name" . }}
{{- template "gpu-inference.check.source" . }}
{{- if or .spec.claims .spec.ingress.enabled .spec.networkPolicy.enabled }}{{ template "gpu-inference.check.names" . }}{{ end }}
{{- if .runtime.own }}{{ template "gpu-inference.check.preset" . }}{{ end }}
{{- if hasKey .spec.probes.startup "failureThreshold" }}{{ template "gpu-inference.check.startup" . }}{{ end }}
{{- if ne .spec.workload "Deployment" }}{{ template "gpu-inference.check.neighbours" . }}{{ end }}
{{- if .spec.claims }}{{ template "gpu-inference.check.claims" . }}{{ end }}
{{- $alike := omit .values "model" "startup" "drain" "replicas" "autoscaling" | toJson | print .base }}
{{- if not (hasKey .store.checked $alike) }}
  {{- $found := include "gpu-inference.check.alike" . }}
  {{- $found }}
  {{- if not $found }}{{ $_ := set .store.checked $alike true }}{{ end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.alike: nothing in it may look at a model's name, model, startup, drain, replicas or autoscaling.
*/}}
{{- define "gpu-inference.check.alike" -}}
{{- template "gpu-inference.check.image" . }}
{{- template "gpu-inference.check.accelerator" . }}
{{- template "gpu-inference.check.nodes" . }}
{{- template "gpu-inference.check.network" . }}
{{- template "gpu-inference.check.arguments" . }}
{{- template "gpu-inference.check.labels" . }}
{{- template "gpu-inference.check.env" . }}
{{- template "gpu-inference.check.resources" . }}
{{- template "gpu-inference.check.volumes" . }}
{{- template "gpu-inference.check.pod" . }}
{{- template "gpu-inference.check.group" . }}
{{- template "gpu-inference.check.rollout" . }}
{{- if hasKey .spec.canary "request" }}{{ template "gpu-inference.check.canary" . }}{{ end }}
{{- $service := .spec.service }}
{{- if or $service.nodePorts (hasKey $service "loadBalancerSourceRanges") (hasKey $service "externalTrafficPolicy") }}
  {{- template "gpu-inference.check.service" . }}
{{- end }}
{{- end }}
