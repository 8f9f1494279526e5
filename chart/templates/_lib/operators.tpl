{{/*
gpu-inference.operators.env is a model's environment without the variables in `own`, as JSON. Takes {model, own}.
*/}}
{{- define "gpu-inference.operators.env" -}}
{{- $kept := list }}
{{- range include "gpu-inference.env.list" .model | fromYamlArray }}
  {{- if not (has .name $.own) }}{{ $kept = append $kept . }}{{ end }}
{{- end }}
{{- toJson $kept }}
{{- end }}

{{/*
gpu-inference.operators.probes: those of the model as a NIMService has them. The operator's port has another name.
*/}}
{{- define "gpu-inference.operators.probes" -}}
{{- $ports := .runtime.ports }}
{{- range $name, $probe := include "gpu-inference.probes.all" . | fromYaml }}
{{- $_ := set $probe.httpGet "port" (index $ports $probe.httpGet.port | int64) }}
{{ $name }}: {enabled: true, probe: {{ toJson $probe }}}
{{- end }}
{{- end }}

{{/*
gpu-inference.operators.cache is the name of a model's NIMCache. Its image cannot change: another image is another cache.
*/}}
{{- define "gpu-inference.operators.cache" -}}
{{ .fullname }}-{{ include "gpu-inference.container.image" .spec.image | sha256sum | trunc 8 }}
{{- end }}

{{/*
gpu-inference.operators.serve is a RayService's serveConfigV2: the model's deployment gets the replicas, the GPUs and the drain.
*/}}
{{- define "gpu-inference.operators.serve" -}}
{{- $s := .spec }}
{{- $scaling := $s.autoscaling }}
applications:
  - name: {{ toJson $s.model.servedName }}
    route_prefix: /
    import_path: {{ $s.rayService.importPath }}
    deployments:
      - name: {{ $s.rayService.deployment }}
        {{- if $scaling.enabled }}
        autoscaling_config:
          min_replicas: {{ int64 $scaling.minReplicas }}
          max_replicas: {{ int64 $scaling.maxReplicas }}
          target_ongoing_requests: {{ $scaling.target.requestsInFlight }}
          upscale_delay_s: {{ int64 $scaling.behavior.scaleUp.stabilizationWindowSeconds }}
          downscale_delay_s: {{ int64 $scaling.behavior.scaleDown.stabilizationWindowSeconds }}
        {{- else }}
        num_replicas: {{ int64 $s.replicas }}
        {{- end }}
        ray_actor_options: {num_gpus: {{ int64 $s.accelerator.count }}}
        graceful_shutdown_timeout_s: {{ int64 $s.drain.requestSeconds }}
{{- end }}

{{/*
gpu-inference.operators.worker is the template of a RayService's worker pods: the model's, without what KubeRay sets itself.
*/}}
{{- define "gpu-inference.operators.worker" -}}
{{- $m := omit . "runtime" "spec" }}
{{- $_ := set $m "runtime" (omit .runtime "args" "told" "command") }}
{{- $_ := set $m.runtime "args" list }}
{{- $_ := set $m.runtime "told" dict }}
{{- $_ := set $m.runtime "command" list }}
{{- $spec := omit .spec "podAnnotations" }}
{{- $scrape := dict }}
{{- if .spec.monitoring.annotations }}
  {{- $port := index .runtime.ports .runtime.metrics.port | int64 | toString }}
  {{- $scrape = dict "prometheus.io/scrape" "true" "prometheus.io/port" $port "prometheus.io/path" .runtime.metrics.path }}
{{- end }}
{{- $_ := set $spec "podAnnotations" (merge $scrape .spec.podAnnotations) }}
{{- $_ := set $m "spec" $spec }}
{{- $_ := set $m "worker" true }}
{{- include "gpu-inference.pod.template" $m }}
{{- end }}

{{/*
gpu-inference.operators.head is the pod template of a RayService's head: it schedules and answers for the dashboard, without a GPU.
*/}}
{{- define "gpu-inference.operators.head" -}}
{{- $s := .spec }}
metadata:
  labels:
    {{- .selector | replace "component: server" "component: head" | nindent 4 }}
spec:
  {{- /* To scale, the head changes the cluster: KubeRay gives it an account that may. */}}
  {{- if not $s.autoscaling.enabled }}
  serviceAccountName: {{ template "gpu-inference.pod.serviceAccount" . }}
  automountServiceAccountToken: false
  {{- end }}
  enableServiceLinks: false
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toJson . }}
  {{- end }}
  securityContext: {{ template "gpu-inference.security.pod" $s.security }}
  containers:
    - name: head
      image: {{ include "gpu-inference.container.image" $s.image | toJson }}
      imagePullPolicy: {{ $s.image.pullPolicy }}
      env: {{ include "gpu-inference.operators.env" (dict "model" . "own" list) }}
      ports:
        {{- range $name, $port := .runtime.rayService.ownPorts }}
        - {name: {{ $name }}, containerPort: {{ int64 $port }}, protocol: TCP}
        {{- end }}
      resources:
        {{- $amounts := dict "cpu" (toString $s.rayService.head.cpu) "memory" $s.rayService.head.memory "ephemeral-storage" "4Gi" }}
        {{- dict "requests" $amounts "limits" $amounts | toYaml | nindent 8 }}
      securityContext: {{ template "gpu-inference.security.container" $s.security }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: shm, mountPath: /dev/shm}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: 2Gi}}
    - {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ $s.shm.sizeLimit }}}}
{{- end }}

{{/*
gpu-inference.operators.scale: of a NIMService, which has replicas or an autoscaler.
*/}}
{{- define "gpu-inference.operators.scale" }}
{{- $scaling := .spec.autoscaling }}
  {{- if $scaling.enabled }}
  scale:
    enabled: true
    hpa:
      minReplicas: {{ int64 $scaling.minReplicas }}
      maxReplicas: {{ int64 $scaling.maxReplicas }}
      metrics:
        {{- include "gpu-inference.scaling.metrics" (dict "model" .) | nindent 8 }}
      behavior: {{ toJson $scaling.behavior }}
  {{- else }}
  replicas: {{ int64 .spec.replicas }}
  {{- end }}
{{- end }}
