{{/*
gpu-inference.container.spec is the server's container, `container` of the values merged over it last. Written at its place
in a Deployment, as gpu-inference.pod.spec; the first line follows the dash.
*/}}
{{- define "gpu-inference.container.spec" -}}
{{- if .spec.container }}
  {{- $text := print "          " (include "gpu-inference.container.text" .) }}
  {{- mustMergeOverwrite (fromYaml $text) (deepCopy .spec.container) | toYaml | indent 10 | trim }}
{{- else }}
  {{- template "gpu-inference.container.text" . }}
{{- end }}
{{- end }}

{{- define "gpu-inference.container.text" -}}
name: server
          image: {{ .image }}
          imagePullPolicy: {{ .spec.image.pullPolicy }}
          {{- with .runtime.command }}
          command: {{ toJson . }}
          {{- end }}
          {{- with include "gpu-inference.args.list" . }}
          args:
            {{- . }}
          {{- end }}
          {{- with include "gpu-inference.env.list" . }}
          env:
            {{- . }}
          {{- end }}
          {{- $gpu := .spec.accelerator }}
          {{- $of := list .worker .scripts (and .runtime.probesName .spec.model.servedName) .spec.startup.budgetSeconds .spec.drain .values.probes
              .spec.resources.cpu .sizes $gpu.count $gpu.resource .values.security }}
          {{- template "gpu-inference.once.text" (dict "m" . "name" "gpu-inference.container.rest" "of" $of) }}
          volumeMounts:
            {{- template "gpu-inference.volumes.container" . }}
{{- end }}

{{/*
gpu-inference.container.rest is how a server is reached, probed, stopped and confined, and what it gets.
*/}}
{{- define "gpu-inference.container.rest" }}
          {{- $stay := int64 .spec.drain.sleepSeconds }}
          {{- if .worker }}
          {{- /* It holds a part of the model, and stays until its leader has answered what is in flight. */}}
          {{- $stay = add .spec.drain.preStopSeconds .spec.drain.requestSeconds }}
          {{- else }}
          ports:
            {{- range $name, $port := .runtime.ports }}
            - {name: {{ $name }}, containerPort: {{ int64 $port }}, protocol: TCP}
            {{- end }}
          {{- template "gpu-inference.probes.all" . }}
          {{- end }}
          {{- with $stay }}
          lifecycle: {preStop: {sleep: {seconds: {{ . }}}}}
          {{- end }}
          resources:
            {{- template "gpu-inference.resources.container" . }}
          securityContext: {{ template "gpu-inference.security.container" .spec.security }}
{{- end }}

{{/*
gpu-inference.container.image: repository, then tag and digest where they are set.
*/}}
{{- define "gpu-inference.container.image" -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
