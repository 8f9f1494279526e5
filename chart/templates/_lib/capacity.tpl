{{/*
gpu-inference.capacity.burst sets .burst, the spot pods of a model of capacity mixed: the same model with the cloud's spot
scheduling, in a Deployment <name>-spot. Its pods carry one label more, so that the Service, the PodDisruptionBudget and all
else that selects a model's pods selects both. The base's selector stays that of any model, as it can never change: changing
`capacity` restarts no pod of the base. It takes in the spot pods too, which does no harm: a ReplicaSet tells its own by their
owner and by pod-template-hash.
*/}}
{{- define "gpu-inference.capacity.burst" -}}
{{- $burst := pick . "root" "store" "name" "values" "accelerator" "cloud" }}
{{- /* As the preset has it: the base's may be told of an engine already. */}}
{{- $_ := set $burst "runtime" (index .store.runtimes .spec.runtime) }}
{{- $_ := set $burst "onDemand" .spec }}
{{- $_ := set $burst "capacity" "spot" }}
{{- $_ := set $burst "base" (print (trimSuffix "onDemand" .base) "spot") }}
{{- template "gpu-inference.resolve.model" $burst }}
{{- $_ := set $burst "selector" (print .selector "\ngpu-inference.io/capacity: spot") }}
{{- /* The rest keeps its name: both kinds of pods share the ServiceAccount, the files and the claims. */}}
{{- $named := dict "fullname" (print .fullname "-spot") "selector" $burst.selector "root" .root }}
{{- $_ := set $burst "metadata" (include "gpu-inference.labels.metadata" $named) }}
{{- $_ := set . "burst" $burst }}
{{- end }}

{{/*
gpu-inference.capacity.prefer turns what selects spot nodes into a preference, .preferredNodeLabels of the spec. What the
values select themselves stays.
*/}}
{{- define "gpu-inference.capacity.prefer" -}}
{{- $preferred := dict }}
{{- $selector := omit .spec.nodeSelector "" }}
{{- range $label, $value := (default dict (index .cloud "spot")).nodeSelector }}
  {{- if eq (toString (get $.spec.nodeSelector $label)) $value }}
    {{- $_ := set $preferred $label $value }}
    {{- $_ := unset $selector $label }}
  {{- end }}
{{- end }}
{{- $_ := set .spec "nodeSelector" $selector }}
{{- $_ := set .spec "preferredNodeLabels" $preferred }}
{{- end }}

{{/*
gpu-inference.capacity.priority is the name of a PriorityClass: of one that the chart makes, else as it is. It is an object of the
whole cluster, so its name tells release and namespace; and as none of its numbers can be changed, the name tells them, too.
Takes {root, name}.
*/}}
{{- define "gpu-inference.capacity.priority" -}}
{{- $classes := .root.resolved.priorityClasses }}
{{- if hasKey $classes .name }}
  {{- $class := index $classes .name }}
  {{- printf "%s-%s-%s-%d" (include "gpu-inference.labels.fullname" .root) .root.Release.Namespace .name (int64 $class.value) }}
  {{- with get $class "preemptionPolicy" }}-{{ lower . }}{{ end }}
{{- else }}
  {{- .name }}
{{- end }}
{{- end }}

{{/*
gpu-inference.capacity.classes sets .priorityClasses of what is resolved: those of the values, and one for balloons that name none.
Takes {resolved, classes: of the values}.
*/}}
{{- define "gpu-inference.capacity.classes" -}}
{{- $classes := .classes }}
{{- range .resolved.balloons }}
  {{- if not (or (get .spec.balloon "priorityClassName") (hasKey $classes "balloon")) }}
    {{- /* Below all that has no priority, 0, and not below what the Cluster Autoscaler adds nodes for, -10. */}}
    {{- $classes = set (omit $classes "") "balloon" (dict "value" -10 "preemptionPolicy" "Never") }}
  {{- end }}
{{- end }}
{{- $_ := set .resolved "priorityClasses" $classes }}
{{- end }}
