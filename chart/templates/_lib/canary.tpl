{{/*
gpu-inference.canary.request is what files/canary.py reads: the model's canary, or else the runtime's. Takes {m, at: where the
server is, attempts, timeoutSeconds, health: {url, timeoutSeconds} of what has to answer first, or nothing}.
*/}}
{{- define "gpu-inference.canary.request" -}}
{{- $canary := or .m.spec.canary.request .m.runtime.canary }}
{{- $request := pick $canary "method" "expect" "body" }}
{{- $_ := set $request "url" (print .at $canary.path) }}
{{- with .health }}{{- $_ := set $request "health" . }}{{ end }}
{{- with include "gpu-inference.canary.key" .m }}{{- $_ := set $request "apiKeyEnv" . }}{{ end }}
{{- $_ := set $request "attempts" (int64 .attempts) }}
{{- $_ := set $request "timeoutSeconds" (int64 .timeoutSeconds) }}
{{- $name := toJson .m.spec.model.servedName | trimPrefix "\"" | trimSuffix "\"" }}
{{- toJson $request | replace "{servedName}" $name }}
{{- end }}

{{/*
gpu-inference.canary.key is the variable with the server's API key, where the model has it.
*/}}
{{- define "gpu-inference.canary.key" -}}
{{- $key := (or .spec.canary.request .runtime.canary).apiKeyEnv | default .runtime.canary.apiKeyEnv }}
{{- if and $key (hasKey .spec.env $key) }}{{ $key }}{{ end }}
{{- end }}

{{/*
gpu-inference.canary.pod is the spec of a pod that asks a model through its Service. Takes {m, attempts, scripts: the end of the
name of the ConfigMap with the script}.
*/}}
{{- define "gpu-inference.canary.pod" }}
{{- $m := .m }}
{{- $test := $m.spec.test }}
{{- $at := printf "http://%s.%s.svc:%d" $m.fullname $m.root.Release.Namespace (int64 $m.spec.service.port) }}
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $m.root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{ template "gpu-inference.security.pod" $m.spec.security }}
  {{- /* On the model's nodes, where its image is already. */}}
  {{- $m.nodes | replace "\n" "\n  " }}
  containers:
    - name: canary
      image: {{ with $test.image }}{{ toJson . }}{{ else }}{{ $m.image }}{{ end }}
      imagePullPolicy: {{ $m.spec.image.pullPolicy }}
      command: [python3, /canary/canary.py]
      env:
        {{- /* Where the container runtime goes by it, the model's image would get every GPU of the node. */}}
        - {name: NVIDIA_VISIBLE_DEVICES, value: void}
        - {name: CANARY, value: {{ include "gpu-inference.canary.request" (dict "m" $m "at" $at "attempts" .attempts "timeoutSeconds" $test.timeoutSeconds) | toJson }}}
        {{- with include "gpu-inference.canary.key" $m }}
        {{- $value := get $m.spec.env . }}
        - {name: {{ . }}, {{ if kindIs "map" $value }}valueFrom: {{ toJson $value }}{{ else }}value: {{ $value | toString | toJson }}{{ end }}}
        {{- end }}
      resources:
        requests: {cpu: 100m, memory: 64Mi, ephemeral-storage: 16Mi}
        limits: {cpu: 500m, memory: 128Mi, ephemeral-storage: 16Mi}
      securityContext: {{ template "gpu-inference.security.container" $m.spec.security }}
      volumeMounts:
        - {name: canary, mountPath: /canary, readOnly: true}
  volumes:
    - name: canary
      configMap: {name: {{ $m.root.resolved.fullname }}-{{ .scripts }}}
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
