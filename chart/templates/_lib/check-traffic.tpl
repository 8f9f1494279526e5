{{- define "gpu-inference.check.service" -}}
{{- $service := .spec.service }}
{{- range $key, $types := dict "loadBalancerSourceRanges" (list "LoadBalancer") "externalTrafficPolicy" (list "LoadBalancer" "NodePort") "nodePorts" (list "LoadBalancer" "NodePort") }}
  {{- if and (get $service $key) (not (has $service.type $types)) }}
models.{{ $.name }}.service.{{ $key }}: a {{ $service.type }} Service takes none. Fix: set type to {{ $types | join " or " }}, or remove it.
  {{- end }}
{{- end }}
{{- range $port, $_ := $service.nodePorts }}
  {{- if not (hasKey $.runtime.ports $port) }}
models.{{ $.name }}.service.nodePorts.{{ $port }}: {{ $.spec.runtime }} has no port of this name. Fix: use {{ keys $.runtime.ports | sortAlpha | join ", " }}.
  {{- end }}
{{- end }}
{{- end }}

{{- define "gpu-inference.check.policy" -}}
{{- if not .spec.networkPolicy.monitoringFrom }}
  {{- if or .spec.autoscaling.enabled .spec.monitoring.podMonitor.enabled }}
models.{{ .name }}.networkPolicy.monitoringFrom: is empty, so that nothing can scrape the pods. Fix: name Prometheus, or turn autoscaling and the PodMonitor off.
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.check.traffic: of models with more to do with the network than a Service.
*/}}
{{- define "gpu-inference.check.traffic" -}}
{{- if .spec.networkPolicy.enabled }}{{ template "gpu-inference.check.policy" . }}{{ end }}
{{- if .spec.ingress.enabled }}{{ template "gpu-inference.check.ingress" . }}{{ end }}
{{- if .spec.gateway.enabled }}{{ template "gpu-inference.check.gateway" . }}{{ end }}
{{- end }}

{{- define "gpu-inference.check.ingress" -}}
{{- $ingress := .spec.ingress }}
{{- $path := printf "models.%s.ingress" .name }}
{{- if not (get $ingress "host") }}
{{ $path }}.host: is not set. Fix: set it to the name that clients use.
{{- else }}
  {{- template "gpu-inference.check.route" (dict "model" .name "store" .store "at" (print $path ".host") "host" $ingress.host "path" $ingress.path "via" $ingress.className) }}
{{- end }}
{{- with get $ingress "grpcHost" }}
  {{- template "gpu-inference.check.grpc" (dict "m" $ "at" (print $path ".grpcHost")) }}
  {{- template "gpu-inference.check.route" (dict "model" $.name "store" $.store "at" (print $path ".grpcHost") "host" . "path" "/" "via" $ingress.className) }}
  {{- if not (get $ingress "tlsSecret") }}
{{ $path }}.tlsSecret: is not set, and gRPC needs HTTP/2, which nginx speaks over TLS only. Fix: name the Secret with the certificate.
  {{- end }}
{{- end }}
{{- template "gpu-inference.check.timeout" (dict "spec" .spec "via" $ingress "at" $path) }}
{{- end }}

{{- define "gpu-inference.check.gateway" -}}
{{- $gateway := .spec.gateway }}
{{- $path := printf "models.%s.gateway" .name }}
{{- if not $gateway.parentRefs }}
{{ $path }}.parentRefs: is empty. Fix: name the Gateway that is to pass requests on, {name: …}.
{{- end }}
{{- range $gateway.hostnames | default (list "*") }}
  {{- template "gpu-inference.check.route" (dict "model" $.name "store" $.store "at" (print $path ".hostnames") "host" . "path" $gateway.path "via" (toJson $gateway.parentRefs)) }}
{{- end }}
{{- if $gateway.grpcHostnames }}
  {{- template "gpu-inference.check.grpc" (dict "m" . "at" (print $path ".grpcHostnames")) }}
  {{- range $gateway.grpcHostnames }}
    {{- template "gpu-inference.check.route" (dict "model" $.name "store" $.store "at" (print $path ".grpcHostnames") "host" . "path" $gateway.path "via" (toJson $gateway.parentRefs)) }}
  {{- end }}
{{- end }}
{{- template "gpu-inference.check.timeout" (dict "spec" .spec "via" $gateway "at" $path) }}
{{- end }}

{{/*
gpu-inference.check.route: host and path of every route of a proxy are noted in the store. Takes {model, store, at, host, path, via}.
*/}}
{{- define "gpu-inference.check.route" -}}
{{- $key := print .via " " .host .path }}
{{- if not (hasKey .store "routes") }}{{- $_ := set .store "routes" dict }}{{ end }}
{{- if hasKey .store.routes $key }}
{{ .at }}: {{ .host }}{{ .path }} leads to {{ index .store.routes $key }} already. Fix: use another host or path.
{{- else }}
  {{- $_ := set .store.routes $key .model }}
{{- end }}
{{- end }}

{{- define "gpu-inference.check.grpc" -}}
{{- if not (hasKey .m.runtime.ports "grpc") }}
{{ .at }}: {{ .m.spec.runtime }} has no port called grpc. Fix: remove it, or set runtimes.{{ .m.spec.runtime }}.ports.grpc.
{{- end }}
{{- end }}

{{- define "gpu-inference.check.timeout" -}}
{{- $longest := int64 .spec.drain.requestSeconds }}
{{- if hasKey .via "timeoutSeconds" }}
  {{- if le (int64 .via.timeoutSeconds) $longest }}
{{ .at }}.timeoutSeconds: {{ int64 .via.timeoutSeconds }} would cut off the longest requests, which take drain.requestSeconds, {{ $longest }}. Fix: raise it, or remove it.
  {{- end }}
{{- end }}
{{- end }}
