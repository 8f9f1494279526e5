{{/*
gpu-inference.rules.groups is a model's recording rules and alerts: a group for each file of chart/alerts, without the rules
that name what the model does not have.
*/}}
{{- define "gpu-inference.rules.groups" -}}
{{- $facts := include "gpu-inference.rules.facts" . | fromJson }}
{{- $labels := dict "namespace" .root.Release.Namespace "release" .root.Release.Name "model" .name }}
{{- range $file, $_ := .root.Files.Glob "alerts/*.yaml" }}
  {{- $source := $.root.Files.Get $file | fromYaml }}
  {{- if hasKey $source "Error" }}{{ fail (printf "%s is not valid YAML: %s" $file $source.Error) }}{{ end }}
  {{- if hasPrefix (get $source "resource") $.accelerator.resource }}
- name: {{ $.fullname }}.{{ trimSuffix ".yaml" (base $file) }}
  rules:
    {{- range $source.rules }}
      {{- include "gpu-inference.rules.rule" (dict "rule" . "facts" $facts "labels" $labels) | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.rules.rule is one rule with its <<facts>>, or nothing where one is missing. Takes {rule, facts, labels}.
*/}}
{{- define "gpu-inference.rules.rule" -}}
{{- $rule := omit .rule "needs" }}
{{- $texts := dict "expr" $rule.expr "for" (get $rule "for") }}
{{- range $key, $text := $rule.annotations }}{{- $_ := set $texts $key $text }}{{ end }}
{{- $whole := true }}
{{- range .rule.needs }}{{ $whole = and $whole (hasKey $.facts .) }}{{ end }}
{{- range $key, $text := $texts }}
  {{- range regexFindAll "<<[a-zA-Z.]+>>" $text -1 | uniq }}
    {{- $fact := trimAll "<>" . }}
    {{- if hasKey $.facts $fact }}{{ $text = replace . (index $.facts $fact) $text }}{{ else }}{{ $whole = false }}{{ end }}
  {{- end }}
  {{- $_ := set $texts $key $text }}
{{- end }}
{{- if $whole }}
  {{- $_ := set $rule "expr" $texts.expr }}
  {{- with $texts.for }}{{- $_ := set $rule "for" . }}{{ end }}
  {{- with get $rule "annotations" }}{{- $_ := set $rule "annotations" (omit $texts "expr" "for") }}{{ end }}
  {{- $_ := set $rule "labels" (merge (dict) (get $rule "labels" | default dict) $.labels) }}
  {{- list $rule | toYaml }}
{{- end }}
{{- end }}

{{/*
gpu-inference.rules.facts is what rules may name, as JSON: name -> text. Metrics that this version of the server does not have
are not among it.
*/}}
{{- define "gpu-inference.rules.facts" -}}
{{- $s := .spec }}
{{- $release := .root.Release }}
{{- $metrics := .runtime.metrics }}
{{- $pods := printf "namespace=%q,app_kubernetes_io_instance=%q,gpu_inference_io_model=%q" $release.Namespace $release.Name .name }}
{{- $pod := get .kind "podPattern" | default "[-a-z0-9]+" }}
{{- $spot := hasKey . "burst" }}
{{- $facts := dict "name" .name "namespace" $release.Namespace "pod" (printf "%s-%s%s" .fullname (ternary "(spot-)?" "" $spot) $pod) }}
{{- $_ := set $facts "model" (printf "namespace=%q,release=%q,model=%q" $release.Namespace $release.Name .name) }}
{{- $_ := set $facts "start" (printf "%ds" (add $s.startup.budgetSeconds (int64 $s.startup.provisionSeconds))) }}
{{- $_ := set $facts "stall" (printf "%ds" (int64 $s.progress.stallSeconds)) }}
{{- $_ := set $facts (lower $s.workload) (print .fullname (ternary "(-spot)?" "" $spot)) }}
{{- if $s.autoscaling.enabled }}{{- $_ := set $facts "autoscaler" .fullname }}{{ end }}
{{- if $s.canary.enabled }}
  {{- $_ := set $facts "canary" (print .fullname "-canary") }}
  {{- $_ := set $facts "canarySeconds" (mul 180 $s.canary.everyMinutes | toString) }}
{{- end }}
{{- range $what, $limit := $s.monitoring.rules.thresholds }}
  {{- if not (kindIs "bool" $limit) }}{{- $_ := set $facts (print "limit." $what) (toJson $limit) }}{{ end }}
{{- end }}
{{- if include "gpu-inference.args.applies" (dict "arg" $metrics "version" $s.runtimeVersion) }}
  {{- $all := printf "%s%s" $pods (get $metrics "matchers" | empty | ternary "" (print "," (get $metrics "matchers"))) }}
  {{- $_ := set $facts "pods" $all }}
  {{- range $what, $series := $metrics.names }}{{- $_ := set $facts $what $series }}{{ end }}
  {{- include "gpu-inference.rules.queries" (dict "m" . "facts" $facts "pods" $pods) }}
{{- end }}
{{- $_ := set $facts "up" $pods }}
{{- toJson $facts }}
{{- end }}

{{/*
gpu-inference.rules.queries adds the preset's own queries to the facts. Takes {m, facts, pods}.
*/}}
{{- define "gpu-inference.rules.queries" -}}
{{- $metrics := .m.runtime.metrics }}
{{- with get $metrics "errorRatio" }}{{- $_ := set $.facts "errorRatio" (replace "<<.LabelMatchers>>" $.pods .) }}{{ end }}
{{- with get $metrics "inFlight" }}
  {{- $matchers := $.pods }}
  {{- range $label, $path := .selector }}
    {{- $matchers = printf "%s,%s=%s" $matchers $label (include "gpu-inference.args.at" (dict "spec" $.m.spec "path" $path) | toJson) }}
  {{- end }}
  {{- $_ := set $.facts "inFlight" (replace "<<.LabelMatchers>>" $matchers .query) }}
{{- end }}
{{- with get $metrics "progress" }}
  {{- $rates := list }}
  {{- range . }}{{ $rates = append $rates (printf "sum by (pod) (rate(%s{%s}[3m]))" . $.pods) }}{{ end }}
  {{- $_ := set $.facts "progress" (join " + " $rates) }}
{{- end }}
{{- end }}
