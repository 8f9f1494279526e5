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
{{- if and (hasPrefix "hf://" $s.model.source) (not (hasKey $s.claims "cache")) }}
        - name: cache
          emptyDir: {sizeLimit: {{ template "gpu-inference.quantity.memory" .sizes.cache }}}
{{- end }}
{{- if .files }}
        - name: files
          configMap: {name: {{ .fullname }}-files}
{{- end }}
{{- with include "gpu-inference.source.claim" $s.model.source }}
        - name: model
          persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- range $name, $volume := $s.volumes }}
        - name: {{ $name }}
  {{- toYaml $volume.source | nindent 10 }}
{{- end }}
{{- if ne $s.workload "StatefulSet" }}
  {{- range $name, $_ := $s.claims }}
        - name: {{ $name }}
          persistentVolumeClaim: {claimName: {{ $.fullname }}-{{ $name }}}
  {{- end }}
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
{{- if and (hasPrefix "hf://" $s.model.source) (not (hasKey $s.claims "cache")) }}
            - {name: cache, mountPath: /cache}
{{- end }}
{{- if .files }}
            - {name: files, mountPath: /etc/gpu-inference, readOnly: true}
{{- end }}
{{- if hasPrefix "pvc://" $s.model.source }}
            - {name: model, mountPath: /models, readOnly: true}
{{- end }}
{{- range $name, $claim := $s.claims }}
            - {name: {{ $name }}, mountPath: {{ $claim.mountPath }}}
{{- end }}
{{- range $name, $volume := $s.volumes }}
            - name: {{ $name }}
  {{- toYaml $volume.mount | nindent 14 }}
{{- end }}
{{- end }}
