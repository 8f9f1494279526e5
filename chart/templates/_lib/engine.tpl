{{/*
gpu-inference.engine.derive is for models with engine.enabled. To the spec it adds engine.sourcePath, ranks, sequenceLength and what
the precision stands for; to the model .engine, {image, steps: [{name, command, args}], directory}; to its runtime what the server of
an engine is told. The directory is named by the hash of all that decides what is in it.
*/}}
{{- define "gpu-inference.engine.derive" -}}
{{- $s := .spec }}
{{- $preset := .runtime.engine }}
{{- /* Models share what none of them sets. */}}
{{- $engine := omit $s.engine "" }}
{{- $_ := set $s "engine" $engine }}
{{- range $key, $value := omit (dig $engine.precision dict $preset.precisions) "needs" }}{{- $_ := set $engine $key $value }}{{ end }}
{{- if not (hasKey $engine "source") }}{{- $_ := set $engine "source" $s.model.source }}{{ end }}
{{- $_ := set $s.engine "sourcePath" (include "gpu-inference.job.path" $engine.source) }}
{{- $_ := set $s.engine "ranks" (mul (int64 $s.parallelism.tensor) (int64 $s.parallelism.pipeline)) }}
{{- $_ := set $s.engine "sequenceLength" (add (int64 $engine.maxInputLength) (int64 $engine.maxOutputLength)) }}
{{- if $preset.replacesModel }}
  {{- $_ := set $s.model "reference" "/engine" }}
{{- end }}
{{- $image := include "gpu-inference.container.image" (get $preset "image" | default $s.image) }}
{{- $steps := list }}
{{- range $preset.steps }}
  {{- $spec := omit $s "extraArgs" }}
  {{- $_ := set $spec "extraArgs" (dig "extraArgs" .name list $engine) }}
  {{- $args := include "gpu-inference.args.list" (dict "spec" $spec "runtime" (dict "args" .args "told" dict)) }}
  {{- $steps = append $steps (dict "name" .name "command" .command "args" $args) }}
{{- end }}
{{- $decides := list $engine.source (omit $s.accelerator "memoryFraction") $image $steps }}
{{- $_ := set . "engine" (dict "image" $image "steps" $steps "directory" (toJson $decides | sha256sum | trunc 16)) }}
{{- $runtime := omit .runtime "args" "told" }}
{{- $_ := set $runtime "told" dict }}
{{- $_ := set $runtime "args" (concat .runtime.args (get $preset "args" | default list)) }}
{{- if hasKey $preset "files" }}{{- $_ := set $runtime "files" $preset.files }}{{ end }}
{{- $_ := set . "runtime" $runtime }}
{{- end }}

{{/*
gpu-inference.engine.claim is the name of the claim engines are on.
*/}}
{{- define "gpu-inference.engine.claim" -}}
{{- get .spec.engine.claim "name" | default (printf "%s-engines" .fullname) }}
{{- end }}

{{/*
gpu-inference.engine.wait is the init container that lets the server start when its engine is there. It has no GPU, and no other's.
*/}}
{{- define "gpu-inference.engine.wait" -}}
name: engine
          image: {{ include "gpu-inference.container.image" .spec.image | toJson }}
          imagePullPolicy: {{ .spec.image.pullPolicy }}
          command: [sh, -c, 'until test -e "/engines/$ENGINE/.complete"; do echo "no $ENGINE yet"; sleep 10; done']
          env:
            - {name: ENGINE, value: {{ toJson .engine.directory }}}
            - {name: NVIDIA_VISIBLE_DEVICES, value: void}
          {{- include "gpu-inference.job.small" .spec | nindent 10 }}
          volumeMounts:
            - {name: engine, mountPath: /engines, readOnly: true}
{{- end }}

{{/*
gpu-inference.engine.pod is the spec of the Job's pod, written at its place: each step of the preset is an init container, with the
server's GPUs, environment and directories; the last container publishes what they made, in one rename.
*/}}
{{- define "gpu-inference.engine.pod" -}}
{{- /* Of the server's volumes those that any process needs: neither its model nor what it downloads. */}}
{{- $m := pick . "root" "name" "fullname" "sizes" "runtime" "accelerator" "claim" }}
{{- $_ := set $m "spec" (omit .spec "") }}
{{- $model := omit .spec.model "" }}
{{- range list "source" "path" "repository" "reference" }}{{- $_ := set $model . "" }}{{ end }}
{{- range $key, $value := dict "model" $model "volumes" dict "claims" dict "workload" "Job" }}{{- $_ := set $m.spec $key $value }}{{ end }}
      restartPolicy: Never
      {{- include "gpu-inference.job.pod" (dict "root" .root "security" .spec.security) | nindent 6 }}
      {{- with get .spec.engine "priorityClassName" }}
      priorityClassName: {{ include "gpu-inference.capacity.priority" (dict "root" $.root "name" .) }}
      {{- end }}
      {{- with .claim }}
      resourceClaims: [{name: gpu, resourceClaimTemplateName: {{ .name }}}]
      {{- end }}
      {{- .nodes | replace "\n" "\n      " }}
      initContainers:
        {{- range .engine.steps }}
        - name: {{ .name }}
          command: [sh, -c, 'test -e "$ENGINE/.complete" || exec "$@"', {{ .name }}{{ range .command }}, {{ toJson . }}{{ end }}]
          args:
            {{- .args }}
          workingDir: /tmp
          {{- template "gpu-inference.engine.container" (dict "model" $m "engine" $.engine "gpus" true) }}
        {{- end }}
      containers:
        - name: publish
          command: [sh, -c, {{ $.root.Files.Get "files/publish.sh" | toJson }}]
          {{- template "gpu-inference.engine.container" (dict "model" $m "engine" $.engine "gpus" false) }}
      volumes:
        - name: engine
          persistentVolumeClaim: {claimName: {{ include "gpu-inference.engine.claim" . }}}
        - name: weights
          persistentVolumeClaim: {claimName: {{ include "gpu-inference.job.claim" .spec.engine.source }}, readOnly: true}
        {{- template "gpu-inference.volumes.pod" $m }}
{{- end }}

{{- define "gpu-inference.engine.container" }}
{{- $m := .model }}
          image: {{ toJson .engine.image }}
          imagePullPolicy: {{ $m.spec.image.pullPolicy }}
          env:
            - {name: ENGINE, value: /engines/{{ .engine.directory }}}
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: ENGINE_WORK, value: /engines/.{{ .engine.directory }}-$(POD_NAME)}
            {{- if .gpus }}
            {{- template "gpu-inference.env.text" $m }}
          resources:
            {{- template "gpu-inference.resources.container" $m }}
          securityContext: {{ template "gpu-inference.security.container" $m.spec.security }}
            {{- else }}
            - {name: NVIDIA_VISIBLE_DEVICES, value: void}
          {{- include "gpu-inference.job.small" $m.spec | nindent 10 }}
            {{- end }}
          volumeMounts:
            - {name: engine, mountPath: /engines}
            {{- if .gpus }}
            - {name: weights, mountPath: /models, readOnly: true}
            {{- template "gpu-inference.volumes.container" $m }}
            {{- end }}
{{- end }}
