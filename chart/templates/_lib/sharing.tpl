{{/*
gpu-inference.sharing.derive: what a pod asks for and which nodes have it, where that is not a number of whole GPUs from a
device plugin: part of a GPU, a ResourceClaim, or a product whose labels depend on the number. Sets accelerator.resource, which
is empty with a claim, and labels in nodeSelector that no layer has set.
*/}}
{{- define "gpu-inference.sharing.derive" -}}
{{- $s := .spec }}
{{- /* What the model does not set it has in common with others. */}}
{{- range list "accelerator" "nodeSelector" }}{{- $_ := set $s . (deepCopy (index $s .)) }}{{ end }}
{{- $gpu := $s.accelerator }}
{{- $nodes := $s.nodeSelector }}
{{- $gone := (index .store.bases .base).gone }}
{{- $label := get .cloud.productLabels .accelerator.resource }}
{{- $product := get .accelerator.nodeLabels $label }}
{{- $marks := dict }}
{{- if $gpu.dra }}
  {{- /* The claim names the product; where there is no device plugin there may be no labels either. */}}
  {{- if eq (get $nodes $label | toString) $product }}{{- $_ := unset $nodes $label }}{{ end }}
  {{- $_ := set $s.accelerator "resource" "" }}
{{- else if ne $gpu.sharing "none" }}
  {{- $_ := set $s.accelerator "resource" (include "gpu-inference.sharing.resource" .) }}
  {{- $marks = include "gpu-inference.sharing.marks" . | fromJson }}
  {{- if and $marks (eq (get $nodes $label | toString) $product) }}{{- $_ := unset $nodes $label }}{{ end }}
{{- end }}
{{- range $name, $values := .accelerator.countLabels }}
  {{- with get $values (toString $gpu.count) }}{{- $_ := set $marks $name . }}{{ end }}
{{- end }}
{{- $fill := dict "{product}" $product "{profile}" (get $gpu.mig "profile") "{replicas}" (get $gpu.shared "replicas") }}
{{- range $name, $value := $marks }}
  {{- range $word, $with := $fill }}
    {{- $name = replace $word (toString $with) $name }}
    {{- $value = replace $word (toString $with) $value }}
  {{- end }}
  {{- if not (or (hasKey $nodes $name) (has $name $gone)) }}{{- $_ := set $nodes $name $value }}{{ end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.sharing.kind is the name of the way of sharing in a cloud preset.
*/}}
{{- define "gpu-inference.sharing.kind" -}}
{{- with .spec.accelerator }}
{{- if eq .sharing "mig" }}mig{{ title .mig.strategy }}{{ else }}{{ .sharing }}{{ if .shared.renamed }}Renamed{{ end }}{{ end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.sharing.resource is the extended resource that a part of a GPU is.
*/}}
{{- define "gpu-inference.sharing.resource" -}}
{{- $kind := include "gpu-inference.sharing.kind" . }}
{{- if eq $kind "migMixed" }}{{ .accelerator.vendor }}/mig-{{ get .spec.accelerator.mig "profile" }}
{{- else }}{{ .accelerator.resource }}{{ if hasSuffix "Renamed" $kind }}.shared{{ end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.sharing.marks: labels of the nodes that share GPUs in this way, as JSON; none where the cloud preset knows none.
*/}}
{{- define "gpu-inference.sharing.marks" -}}
{{- $marks := dict }}
{{- $kind := include "gpu-inference.sharing.kind" . }}
{{- with .cloud.sharing }}{{ with get . $.accelerator.resource }}{{ with get . $kind }}{{ $marks = . }}{{ end }}{{ end }}{{ end }}
{{- toJson $marks }}
{{- end }}

{{/*
gpu-inference.sharing.claim sets .claim: {request, name}. A template of claims cannot change, so its name tells what is in it.
*/}}
{{- define "gpu-inference.sharing.claim" -}}
{{- $dra := .accelerator.dra }}
{{- $gpu := .spec.accelerator }}
{{- $selectors := list (dict "cel" (dict "expression" $dra.selector)) }}
{{- $class := $dra.deviceClass }}
{{- if eq $gpu.sharing "mig" }}
  {{- $class = get $dra "migDeviceClass" }}
  {{- $expression := get $dra "migSelector" | replace "{profile}" (get $gpu.mig "profile") }}
  {{- $selectors = append $selectors (dict "cel" (dict "expression" $expression)) }}
{{- end }}
{{- $exactly := dict "deviceClassName" $class "count" (int64 $gpu.count) "selectors" $selectors }}
{{- $request := dict "name" "gpu" "exactly" $exactly | toJson }}
{{- $_ := set . "claim" (dict "request" $request "name" (printf "%s-gpu-%s" .fullname (sha256sum $request | trunc 8))) }}
{{- end }}
