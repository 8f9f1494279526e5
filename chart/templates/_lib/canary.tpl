{{/*
gpu-inference.canary.request is what files/canary.py reads: the runtime's canary, for one model's Service.
*/}}
{{- define "gpu-inference.canary.request" -}}
{{- $canary := .runtime.canary }}
{{- $url := printf "http://%s.%s.svc:%d%s" .fullname .root.Release.Namespace (int64 .spec.service.port) $canary.path }}
{{- $request := dict "url" $url "method" $canary.method "expect" $canary.expect }}
{{- if hasKey $canary "body" }}{{- $_ := set $request "body" $canary.body }}{{ end }}
{{- $_ := set $request "attempts" (int64 .spec.test.attempts) }}
{{- $_ := set $request "timeoutSeconds" (int64 .spec.test.timeoutSeconds) }}
{{- $name := toJson .spec.model.servedName | trimPrefix "\"" | trimSuffix "\"" }}
{{- toJson $request | replace "{servedName}" $name }}
{{- end }}

{{/*
gpu-inference.canary.labels: not the server's component, or the Service would send requests to the test.
*/}}
{{- define "gpu-inference.canary.labels" -}}
{{ template "gpu-inference.canary.selector" . }}
{{ template "gpu-inference.labels.release" . }}
{{- end }}

{{- define "gpu-inference.canary.selector" -}}
app.kubernetes.io/name: gpu-inference
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: test
{{- end }}
