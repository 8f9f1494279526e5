{{/*
gpu-inference.workload.kind sets .kind, what the templates have to know of the model's kind of workload: its API, the label by
which its pods of one version are told apart, what waits for it, and how long its name may be: of 63 characters of a label, a
StatefulSet's pods take 11 for the hash of their version, and a group's number goes before it.
*/}}
{{- define "gpu-inference.workload.kind" -}}
{{- $kinds := .store.kinds }}
{{- if not $kinds }}
  {{- $_ := set $kinds "Deployment" (dict
        "apiVersion" "apps/v1" "revisionLabel" "pod-template-hash" "longestName" 56
        "wait" "rollout status deployment/") }}
  {{- $_ := set $kinds "StatefulSet" (dict
        "apiVersion" "apps/v1" "revisionLabel" "controller-revision-hash" "longestName" 52
        "wait" "rollout status statefulset/") }}
{{- end }}
{{- $_ := set . "kind" (index $kinds .spec.workload) }}
{{- end }}

{{/*
gpu-inference.workload.mostPods is how many pods of a model there may be at once, without those a rollout adds.
*/}}
{{- define "gpu-inference.workload.mostPods" -}}
{{- ternary .spec.autoscaling.maxReplicas .spec.replicas .spec.autoscaling.enabled | int64 }}
{{- end }}
