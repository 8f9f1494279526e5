{{/*
gpu-inference.probes.all renders the three probes. The startup probe allows startup.budgetSeconds; the others only start after it.
A probe of .scripts runs a command instead.
*/}}
{{- define "gpu-inference.probes.all" }}
{{- $m := . }}
{{- range list "startup" "readiness" "liveness" }}
  {{- $http := index $m.runtime.probes . }}
  {{- $probe := index $m.spec.probes . }}
  {{- $period := int64 $probe.periodSeconds }}
          {{ . }}Probe:
  {{- if and $m.scripts (hasKey $m.scripts .) }}
            exec: {command: {{ index $m.scripts . "command" | toJson }}}
            timeoutSeconds: {{ index $m.scripts . "timeoutSeconds" }}
  {{- else }}
            httpGet: {path: {{ $http.path | replace "{servedName}" $m.spec.model.servedName | toJson }}, port: {{ $http.port }}}
            timeoutSeconds: {{ int64 $probe.timeoutSeconds }}
  {{- end }}
            periodSeconds: {{ $period }}
  {{- if hasKey $probe "failureThreshold" }}
            failureThreshold: {{ int64 $probe.failureThreshold }}
  {{- else }}
            failureThreshold: {{ div (add $m.spec.startup.budgetSeconds $period -1) $period }}
  {{- end }}
{{- end }}
{{- end }}
