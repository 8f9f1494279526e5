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
{{- if hasPrefix "hf://" $s.model.source }}
        - name: cache
          emptyDir: {sizeLimit: {{ include "gpu-inference.quantity.memory" .sizes.cache }}}
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
{{- if hasPrefix "hf://" $s.model.source }}
            - {name: cache, mountPath: /cache}
{{- end }}
{{- if .files }}
            - {name: files, mountPath: /etc/gpu-inference, readOnly: true}
{{- end }}
{{- if hasPrefix "pvc://" $s.model.source }}
            - {name: model, mountPath: /models, readOnly: true}
{{- end }}
{{- range $name, $volume := $s.volumes }}
            - name: {{ $name }}
  {{- toYaml $volume.mount | nindent 14 }}
{{- end }}
{{- end }}
