{{/*
gpu-inference.spec.base merges what all models of one runtime, accelerator and capacity share, once: .all of it, and .maps, the
sections of it, {entries: whether they are a user's own}.
*/}}
{{- define "gpu-inference.spec.base" -}}
{{- $side := dict }}
{{- with index .cloud .capacity }}{{ $side = . }}{{ end }}
{{- $base := deepCopy (pick .cloud "nodeSelector" "tolerations") }}
{{- $base = mustMergeOverwrite $base (deepCopy (pick $side "nodeSelector" "absentNodeLabels" "tolerations")) }}
{{- $label := get .cloud.productLabels .accelerator.resource }}
{{- if hasKey .accelerator.nodeLabels $label }}
  {{- $base = mustMergeOverwrite $base (dict "nodeSelector" (pick .accelerator.nodeLabels $label)) }}
{{- end }}
{{- $base = mustMergeOverwrite $base (deepCopy .root.Values.modelDefaults) }}
{{- with .runtime.defaults }}{{ $base = mustMergeOverwrite $base (deepCopy .) }}{{ end }}
{{- with .runtime.images }}{{ with get . $.accelerator.vendor }}{{ $_ := set $base "image" (mustMergeOverwrite $base.image (deepCopy .)) }}{{ end }}{{ end }}
{{- with .accelerator.defaults }}{{ $base = mustMergeOverwrite $base (deepCopy .) }}{{ end }}
{{- $_ := set $base.accelerator "resource" .accelerator.resource }}
{{- $entries := include "gpu-inference.spec.entries" . | splitList " " }}
{{- $gone := list }}
{{- range $label, $value := $base.nodeSelector }}{{ if kindIs "bool" $value }}{{ $gone = append $gone $label }}{{ end }}{{ end }}
{{- range $entries }}{{- template "gpu-inference.spec.removed" (index $base .) }}{{ end }}
{{- $maps := dict }}
{{- range $key, $value := $base }}
  {{- if kindIs "map" $value }}{{- $_ := set $maps $key (dict "entries" (has $key $entries)) }}{{ end }}
{{- end }}
{{- $_ := set .store.bases .base (dict "all" $base "maps" $maps "gone" $gone) }}
{{- end }}

{{/*
gpu-inference.spec.entries names the maps of a user's own entries, of which `false` removes an inherited one.
*/}}
{{- define "gpu-inference.spec.entries" -}}
env tolerations nodeSelector absentNodeLabels volumes writable podLabels podAnnotations claims spread
{{- end }}

{{/*
gpu-inference.spec.removed takes the entries that are `false` out of a map.
*/}}
{{- define "gpu-inference.spec.removed" -}}
{{- $map := . }}
{{- range $key, $value := . }}
  {{- if kindIs "bool" $value }}{{ if not $value }}{{- $_ := unset $map $key }}{{ end }}{{ end }}
{{- end }}
{{- end }}

{{/*
gpu-inference.spec.over merges .from over .into, whose maps others share: they are copied before they change. Merging with Helm's
functions would mean to copy all of it, and takes four times as long.
*/}}
{{- define "gpu-inference.spec.over" -}}
{{- $into := .into }}
{{- range $key, $value := .from }}
  {{- if kindIs "map" $value }}
    {{- $below := index $into $key }}
    {{- if kindIs "map" $below }}
      {{- $below = omit $below "" }}
      {{- template "gpu-inference.spec.over" (dict "into" $below "from" $value) }}
      {{- $value = $below }}
    {{- end }}
  {{- end }}
  {{- $_ := set $into $key $value }}
{{- end }}
{{- end }}

{{/*
gpu-inference.resolve.model sets .spec and the texts that every object of the model carries.
*/}}
{{- define "gpu-inference.resolve.model" -}}
{{- if not (hasKey .store.bases .base) }}{{- template "gpu-inference.spec.base" . }}{{- end }}
{{- $base := index .store.bases .base }}
{{- /* What no model sets is shared by all, and so never written to; what is derived goes into these. */}}
{{- $spec := omit $base.all "" }}
{{- $removable := list }}
{{- range $key, $value := .values }}
  {{- with index $base.maps $key }}
    {{- $section := omit (index $spec $key) "" }}
    {{- template "gpu-inference.spec.over" (dict "into" $section "from" $value) }}
    {{- $value = $section }}
    {{- if .entries }}{{ $removable = append $removable $key }}{{ end }}
  {{- end }}
  {{- $_ := set $spec $key $value }}
{{- end }}
{{- range list "model" "startup" "drain" }}
  {{- if not (hasKey $.values .) }}{{- $_ := set $spec . (omit (index $spec .) "") }}{{ end }}
{{- end }}
{{- $_ := set . "spec" $spec }}
{{- $gpu := $spec.accelerator }}
{{- $_ := set . "shared" (or $gpu.dra (ne $gpu.sharing "none")) }}
{{- if or .shared .accelerator.countLabels }}{{- template "gpu-inference.sharing.derive" . }}{{ end }}
{{- range $removable }}{{- template "gpu-inference.spec.removed" (index $spec .) }}{{ end }}
{{- if and $spec.spot.fallback (eq .capacity "spot") }}{{- template "gpu-inference.capacity.prefer" . }}{{ end }}
{{- template "gpu-inference.spec.derive" . }}
{{- template "gpu-inference.workload.kind" . }}
{{- template "gpu-inference.sizing.all" . }}
{{- if $spec.engine.enabled }}{{ if hasKey .runtime "engine" }}{{ template "gpu-inference.engine.derive" . }}{{ end }}{{ end }}
{{- if .runtime.files }}{{- $_ := set . "files" (include "gpu-inference.files.data" .) }}{{ end }}
{{- $_ := set . "fullname" (print .root.resolved.fullname "-" .name) }}
{{- $_ := set . "image" (include "gpu-inference.container.image" $spec.image | toJson) }}
{{- $_ := set . "selector" (include "gpu-inference.labels.selector" .) }}
{{- $_ := set . "metadata" (include "gpu-inference.labels.metadata" .) }}
{{- if or $spec.warmup.enabled $spec.progress.readiness $spec.progress.liveness }}{{- template "gpu-inference.health.scripts" . }}{{ end }}
{{- $_ := set . "nodes" (include "gpu-inference.scheduling.nodes" $spec) }}
{{- if and $gpu.dra .accelerator.dra }}{{- template "gpu-inference.sharing.claim" . }}{{ end }}
{{- end }}

{{/*
gpu-inference.spec.derive adds what follows from the rest of a spec: name, ports, model.path, model.repository, model.hubFile and
model.reference (whichever of the two there is), model.servedName, startup.budgetSeconds, drain.sleepSeconds and
drain.graceSeconds. A server that drops its work on SIGTERM gets it only when the longest request is over.
*/}}
{{- define "gpu-inference.spec.derive" -}}
{{- $s := .spec }}
{{- $_ := set $s "name" .name }}
{{- $_ := set $s "ports" .runtime.ports }}
{{- if not (get $s.model "servedName") }}{{- $_ := set $s.model "servedName" .name }}{{- end }}
{{- template "gpu-inference.source.place" . }}
{{- $_ := set $s.model "reference" (print $s.model.path $s.model.repository) }}
{{- $startup := $s.probes.startup }}
{{- $budget := mul 2 (int64 $s.startup.loadSeconds) }}
{{- if eq $s.workload "LeaderWorkerSet" }}
  {{- /* A leader's clock runs while its workers still wait for their nodes. */}}
  {{- $budget = add $budget (int64 $s.startup.provisionSeconds) }}
{{- end }}
{{- if hasKey $startup "failureThreshold" }}
  {{- $budget = mul (int64 $startup.failureThreshold) (int64 $startup.periodSeconds) }}
{{- end }}
{{- $_ := set $s.startup "budgetSeconds" $budget }}
{{- $sleep := int64 $s.drain.preStopSeconds }}
{{- $whole := add $sleep (int64 $s.drain.requestSeconds) }}
{{- $_ := set $s.drain "sleepSeconds" (ternary $whole $sleep (eq .runtime.lifecycle.sigterm "abort")) }}
{{- $_ := set $s.drain "graceSeconds" (add $whole .runtime.lifecycle.teardownSeconds) }}
{{- end }}
