{{/*
gpu-inference.pod.template: labels, annotations and spec, below `template:` of a workload.
*/}}
{{- define "gpu-inference.pod.template" }}
    metadata:
      labels:
        {{- .selector | nindent 8 }}
        {{- range $name, $value := .spec.podLabels }}
        {{ $name }}: {{ toJson $value }}
        {{- end }}
        {{- if get .spec.autoscaling.target "queueComputeRatio" }}
        gpu-inference.io/service: {{ .fullname }}
        {{- end }}
      annotations:
        {{- template "gpu-inference.pod.annotations" . }}
    spec:
      {{- template "gpu-inference.pod.spec" . }}
{{- end }}

{{/*
gpu-inference.pod.spec is the pod's spec, `pod` of the values merged over it last. This and what it is made of is written at
the place it has in a Deployment: indenting it there again would take a third of the time of a render.
*/}}
{{- define "gpu-inference.pod.spec" }}
{{- if .spec.pod }}
  {{- mustMergeOverwrite (include "gpu-inference.pod.text" . | fromYaml) (deepCopy .spec.pod) | toYaml | nindent 6 }}
{{- else }}
  {{- template "gpu-inference.pod.text" . }}
{{- end }}
{{- end }}

{{- define "gpu-inference.pod.text" }}
      serviceAccountName: {{ template "gpu-inference.pod.serviceAccount" . }}
      automountServiceAccountToken: false
      {{- /* A Service called like the runtime would inject variables such as VLLM_PORT=tcp://…. */}}
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .spec.drain.graceSeconds }}
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext: {{ template "gpu-inference.security.pod" .spec.security }}
      {{- with get .spec "priorityClassName" }}
      priorityClassName: {{ include "gpu-inference.capacity.priority" (dict "root" $.root "name" .) }}
      {{- end }}
      {{- .nodes | replace "\n" "\n      " }}
      {{- if .spec.spread }}{{ template "gpu-inference.pod.spread" . }}{{ end }}
      {{- if or .folder .engine }}{{ template "gpu-inference.pod.init" . }}{{ end }}
      {{- with .claim }}
      resourceClaims: [{name: gpu, resourceClaimTemplateName: {{ .name }}}]
      {{- end }}
      containers:
        - {{ template "gpu-inference.container.spec" . }}
      volumes:
        {{- template "gpu-inference.volumes.pod" . }}
{{- end }}

{{- define "gpu-inference.pod.spread" }}
      {{- $selector := .selector | nindent 14 }}
      topologySpreadConstraints:
        {{- range $label, $mode := .spec.spread }}
        - maxSkew: 1
          topologyKey: {{ $label }}
          whenUnsatisfiable: {{ $mode }}
          matchLabelKeys: [{{ $.kind.revisionLabel }}]
          labelSelector:
            matchLabels:
              {{- $selector }}
        {{- end }}
{{- end }}

{{/*
gpu-inference.pod.init: what the server waits for, or has fetched, before it starts.
*/}}
{{- define "gpu-inference.pod.init" }}
      initContainers:
        {{- if .engine }}
        - {{ template "gpu-inference.engine.wait" . }}
        {{- end }}
        {{- if .folder }}
        {{- if eq .fetch "job" }}
        {{- template "gpu-inference.download.wait" . }}
        {{- else }}
        {{- template "gpu-inference.download.container" . }}
        {{- end }}
        {{- end }}
{{- end }}

{{/*
gpu-inference.pod.serviceAccount is the name of the account the pod runs as.
*/}}
{{- define "gpu-inference.pod.serviceAccount" -}}
{{- if .spec.serviceAccount.create }}{{ .fullname }}{{ else }}{{ .spec.serviceAccount.name }}{{ end }}
{{- end }}

{{/*
gpu-inference.pod.annotations: what the tools and Prometheus read, then podAnnotations.
*/}}
{{- define "gpu-inference.pod.annotations" }}
        gpu-inference.io/runtime: {{ .spec.runtime }}
        gpu-inference.io/load-seconds: {{ int64 .spec.startup.loadSeconds | toString | toJson }}
        {{- /* Scraped twice, the load would count twice. */}}
        {{- if and .spec.monitoring.annotations (not .spec.monitoring.podMonitor.enabled) (not .spec.monitoring.serviceMonitor.enabled) (not .worker) }}
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ index .runtime.ports .runtime.metrics.port | int64 | toString | toJson }}
        prometheus.io/path: {{ .runtime.metrics.path }}
        {{- end }}
        {{- if .files }}
        {{- /* Read at start: a change has to replace the pods. */}}
        gpu-inference.io/files: {{ sha256sum .files }}
        {{- end }}
        {{- range $name, $value := .spec.podAnnotations }}
        {{ $name }}: {{ toJson $value }}
        {{- end }}
{{- end }}
