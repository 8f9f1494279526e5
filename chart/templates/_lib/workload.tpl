{{/*
gpu-inference.workload.kind sets .kind, what the templates have to know of the model's kind of workload: its API, the label by
which its pods of one version are told apart, how their names go on, what waits for it, and how long its name may be: of 63 characters of a label, a
StatefulSet's pods take 11 for the hash of their version, and a group's number goes before it.
*/}}
{{- define "gpu-inference.workload.kind" -}}
{{- $kinds := .store.kinds }}
{{- if not $kinds }}
  {{- $_ := set $kinds "Deployment" (dict
        "apiVersion" "apps/v1" "revisionLabel" "pod-template-hash" "longestName" 56 "podPattern" "[a-z0-9]+-[a-z0-9]{5}"
        "wait" "rollout status deployment/") }}
  {{- $_ := set $kinds "StatefulSet" (dict
        "apiVersion" "apps/v1" "revisionLabel" "controller-revision-hash" "longestName" 52 "podPattern" "[0-9]+"
        "wait" "rollout status statefulset/") }}
  {{- $_ := set $kinds "LeaderWorkerSet" (dict
        "apiVersion" "leaderworkerset.x-k8s.io/v1" "revisionLabel" "leaderworkerset.sigs.k8s.io/template-revision-hash"
        "longestName" 48 "podPattern" "[0-9]+(-[0-9]+)?" "wait" "wait --for=condition=Available --timeout=1h leaderworkerset/") }}
  {{- /* Made by an operator: what it makes itself, and which values it has nothing for. */}}
  {{- $none := list "ingress.enabled" "gateway.enabled" "networkPolicy.enabled" "claims" "service.nodePorts" "service.externalTrafficPolicy"
        "service.loadBalancerSourceRanges" "service.sessionAffinity" "autoscaling.metrics" "warmup.enabled" "progress.readiness"
        "progress.liveness" "canary.enabled" "monitoring.rules.enabled" "monitoring.serviceMonitor.enabled" "monitoring.dashboard" }}
  {{- $_ := set $kinds "RayService" (dict
        "apiVersion" "ray.io/v1" "revisionLabel" "ray.io/cluster" "longestName" 40 "operated" "rayService" "service" "-serve-svc"
        "none" (concat $none (list "service.annotations" "monitoring.podMonitor.enabled" "extraArgs"))
        "wait" "wait --for=condition=Ready --timeout=1h rayservice/") }}
  {{- $_ := set $kinds "NIMService" (dict
        "apiVersion" "apps.nvidia.com/v1alpha1" "revisionLabel" "pod-template-hash" "longestName" 48 "operated" "nimService"
        "service" "" "ownAccount" true
        "none" (concat (without $none "autoscaling.metrics") (list "volumes" "pod" "container" "priorityClassName" "absentNodeLabels" "image.digest" "accelerator.dra"
          "serviceAccount.annotations" "serviceAccount.name"))
        "wait" "wait --for=jsonpath={.status.state}=Ready --timeout=1h nimservice/") }}
{{- end }}
{{- $_ := set . "kind" (index $kinds .spec.workload) }}
{{- end }}

{{/*
gpu-inference.workload.mostPods is how many pods that serve a model there may be at once, without those a rollout adds.
*/}}
{{- define "gpu-inference.workload.mostPods" -}}
{{- ternary .spec.autoscaling.maxReplicas .spec.replicas .spec.autoscaling.enabled | int64 }}
{{- end }}

{{/*
gpu-inference.workload.member is the pod template of a group's leader or worker: the model's, with the arguments of the preset's
multiNode. A worker answers no requests, and so has no ports, no probes, and a component of its own. Takes {model, worker}.
*/}}
{{- define "gpu-inference.workload.member" -}}
{{- $m := omit .model "runtime" }}
{{- $runtime := omit .model.runtime "args" "told" }}
{{- $args := concat .model.runtime.args $runtime.multiNode.args }}
{{- if .worker }}
  {{- $args = concat $args $runtime.multiNode.workerArgs }}
  {{- $_ := set $m "selector" (.model.selector | replace "component: server" "component: worker") }}
{{- end }}
{{- $_ := set $runtime "args" $args }}
{{- $_ := set $runtime "told" dict }}
{{- $_ := set $m "runtime" $runtime }}
{{- $_ := set $m "worker" .worker }}
{{- include "gpu-inference.pod.template" $m | replace "\n" "\n    " }}
{{- end }}
