{{/*
gpu-inference.health.scripts sets .scripts, the probes that run a script in the server's container: probe -> {command,
timeoutSeconds}. Without site packages (-S), which would cost seconds, and isolated from the server's Python (-I).
*/}}
{{- define "gpu-inference.health.scripts" -}}
{{- $s := .spec }}
{{- $run := list "python3" "-ISB" }}
{{- $scripts := dict }}
{{- if $s.warmup.enabled }}
  {{- $at := printf "http://127.0.0.1:%d" (int64 .runtime.ports.http) }}
  {{- $health := dict "url" (include "gpu-inference.health.url" (dict "m" . "probe" "startup")) "timeoutSeconds" (int64 $s.probes.startup.timeoutSeconds) }}
  {{- $request := include "gpu-inference.canary.request" (dict "m" . "at" $at "attempts" 1 "timeoutSeconds" $s.warmup.timeoutSeconds "health" $health) }}
  {{- $limit := add $s.warmup.timeoutSeconds $s.probes.startup.timeoutSeconds 5 }}
  {{- $_ := set $scripts "startup" (dict "command" (concat $run (list "/opt/gpu-inference/canary.py" $request)) "timeoutSeconds" $limit) }}
{{- end }}
{{- range list "readiness" "liveness" }}
  {{- if index $s.progress . }}
    {{- $metrics := $.runtime.metrics }}
    {{- $probe := index $s.probes . }}
    {{- $config := dict "state" (printf "/dev/shm/gpu-inference-%s.json" .) "timeoutSeconds" (max 1 (sub $probe.timeoutSeconds 2)) }}
    {{- $_ := set $config "health" (include "gpu-inference.health.url" (dict "m" $ "probe" .)) }}
    {{- $_ := set $config "metrics" (printf "http://127.0.0.1:%d%s" (index $.runtime.ports $metrics.port | int64) $metrics.path) }}
    {{- $_ := set $config "running" (get $metrics.names "running") }}
    {{- $_ := set $config "progress" (get $metrics "progress") }}
    {{- $_ := set $config "stallSeconds" (int64 $s.progress.stallSeconds) }}
    {{- $_ := set $config "gapSeconds" (add 30 (mul 3 (add $probe.periodSeconds $probe.timeoutSeconds))) }}
    {{- $_ := set $scripts . (dict "command" (concat $run (list "/opt/gpu-inference/progress.py" (toJson $config))) "timeoutSeconds" (int64 $probe.timeoutSeconds)) }}
  {{- end }}
{{- end }}
{{- $_ := set . "scripts" $scripts }}
{{- end }}

{{/*
gpu-inference.health.url is what one of the preset's probes asks, from within the pod. Takes {m, probe}.
*/}}
{{- define "gpu-inference.health.url" -}}
{{- $http := index .m.runtime.probes .probe }}
{{- printf "http://127.0.0.1:%d%s" (index .m.runtime.ports $http.port | int64) ($http.path | replace "{servedName}" .m.spec.model.servedName) }}
{{- end }}
