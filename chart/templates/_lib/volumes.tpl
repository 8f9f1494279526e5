{{/*
gpu-inference.volumes.pod: the volumes of a pod. Everything the chart adds is an emptyDir with a limit, or the model's claim.
*/}}
{{- define "gpu-inference.volumes.pod" }}
{{- $s := .spec }}
        - name: shm
          emptyDir: {medium: Memory, sizeLimit: {{ $s.shm.sizeLimit }}}
{{- range $name, $dir := $s.writable }}
        - name: {{ $name }}
          emptyDir: {sizeLimit: {{ $dir.sizeLimit }}}
{{- end }}
{{- if .scratch }}
        - name: cache
          emptyDir: {sizeLimit: {{ template "gpu-inference.quantity.memory" .sizes.cache }}}
{{- end }}
{{- if .folder }}
        - name: downloader
          configMap: {name: {{ .root.resolved.fullname }}-download}
{{- end }}
{{- if and .fetch (hasKey $s.storage.download "claim") }}
        - name: cache
          persistentVolumeClaim: {claimName: {{ $s.storage.download.claim }}{{ if eq .fetch "job" }}, readOnly: true{{ end }}}
{{- end }}
{{- if .files }}
        - name: files
          configMap: {name: {{ .fullname }}-files}
{{- end }}
{{- if .scripts }}
        - {name: gpu-inference-scripts, configMap: {name: {{ template "gpu-inference.labels.fullname" .root }}-scripts}}
{{- end }}
{{- if hasPrefix "/models" $s.model.path }}
        - name: model
          {{ template "gpu-inference.source.volume" . }}
{{- end }}
{{- if .engine }}
        - {name: engine, persistentVolumeClaim: {claimName: {{ template "gpu-inference.engine.claim" . }}, readOnly: true}}
{{- end }}
{{- range $name, $volume := $s.volumes }}
        - name: {{ $name }}
  {{- toYaml $volume.source | nindent 10 }}
{{- end }}
{{- if ne $s.workload "StatefulSet" }}{{ template "gpu-inference.volumes.claims" . }}{{ end }}
{{- end }}

{{- define "gpu-inference.volumes.claims" }}
{{- range $name, $_ := .spec.claims }}
        - name: {{ $name }}
          persistentVolumeClaim: {claimName: {{ $.fullname }}-{{ $name }}{{ if and (eq $.fetch "job") (eq $name "cache") }}, readOnly: true{{ end }}}
{{- end }}
{{- end }}

{{/*
gpu-inference.volumes.claim is the spec of a PersistentVolumeClaim. Takes an entry of `claims`.
*/}}
{{- define "gpu-inference.volumes.claim" -}}
accessModes: {{ toJson .accessModes }}
{{- with .storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end }}

{{/*
gpu-inference.volumes.container: the same volumes, mounted.
*/}}
{{- define "gpu-inference.volumes.container" }}
{{- $s := .spec }}
            - {name: shm, mountPath: /dev/shm}
{{- range $name, $dir := $s.writable }}
            - {name: {{ $name }}, mountPath: {{ $dir.path }}}
{{- end }}
{{- if or .scratch (and .fetch (hasKey $s.storage.download "claim")) }}
            - {name: cache, mountPath: /cache{{ if .folder }}, readOnly: true{{ end }}}
{{- end }}
{{- if .files }}
            - {name: files, mountPath: /etc/gpu-inference, readOnly: true}
{{- end }}
{{- if .scripts }}
            - {name: gpu-inference-scripts, mountPath: /opt/gpu-inference, readOnly: true}
{{- end }}
{{- if hasPrefix "/models" $s.model.path }}
            - {name: model, mountPath: /models, readOnly: true}
{{- end }}
{{- if .engine }}
            - {name: engine, mountPath: /engine, subPath: {{ toJson .engine.directory }}, readOnly: true}
{{- end }}
{{- range $name, $claim := $s.claims }}
            - {name: {{ $name }}, mountPath: {{ $claim.mountPath }}{{ if and $.folder (eq $name "cache") }}, readOnly: true{{ end }}}
{{- end }}
{{- range $name, $volume := $s.volumes }}
            - name: {{ $name }}
  {{- toYaml $volume.mount | nindent 14 }}
{{- end }}
{{- end }}
