{{/*
gpu-inference.traffic.timeout: seconds that a proxy has to wait, which is longer than the longest request.
Takes {spec, via: ingress | gateway}.
*/}}
{{- define "gpu-inference.traffic.timeout" -}}
{{- $via := index .spec .via }}
{{- if hasKey $via "timeoutSeconds" }}{{ int64 $via.timeoutSeconds }}{{ else }}{{ add (int64 .spec.drain.requestSeconds) 5 }}{{ end }}
{{- end }}

{{/*
gpu-inference.traffic.annotations of an Ingress: ingress-nginx waits 60 s and takes 1 MiB without them, and its timeouts
hold for gRPC too (kubernetes/ingress-nginx#11258). Takes {spec, port}.
*/}}
{{- define "gpu-inference.traffic.annotations" -}}
{{- $ingress := .spec.ingress }}
{{- $seconds := include "gpu-inference.traffic.timeout" (dict "spec" .spec "via" "ingress") }}
{{- $nginx := dict "proxy-read-timeout" $seconds "proxy-send-timeout" $seconds "proxy-body-size" $ingress.bodySize }}
{{- with get $ingress "hashBy" }}{{- $_ := set $nginx "upstream-hash-by" . }}{{ end }}
{{- if eq .port "grpc" }}{{- $_ := set $nginx "backend-protocol" "GRPC" }}{{ end }}
{{- $annotations := dict }}
{{- range $key, $value := $nginx }}{{- $_ := set $annotations (print "nginx.ingress.kubernetes.io/" $key) $value }}{{ end }}
{{- toYaml (mustMergeOverwrite $annotations $ingress.annotations) }}
{{- end }}

{{/*
gpu-inference.traffic.ports is what the Service publishes, as JSON: outside of the cluster, the metrics only if they are on the
port of the API.
*/}}
{{- define "gpu-inference.traffic.ports" -}}
{{- $ports := .runtime.ports }}
{{- if and (ne .spec.service.type "ClusterIP") (ne .runtime.metrics.port "http") }}{{ $ports = omit $ports .runtime.metrics.port }}{{ end }}
{{- toJson $ports }}
{{- end }}

{{/*
gpu-inference.traffic.pods selects the pods of a model: those that serve and, of a group, those that hold a part of the model.
*/}}
{{- define "gpu-inference.traffic.pods" -}}
{{- if eq .spec.workload "LeaderWorkerSet" -}}
matchLabels:
  app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
  gpu-inference.io/model: {{ .name }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [server, worker]}
{{- else -}}
matchLabels:
  {{- .selector | nindent 2 }}
{{- end }}
{{- end }}
