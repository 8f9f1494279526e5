{{/*
gpu-inference.download.container downloads the model into .folder on the volume `cache`: the init container of the server's pods, or
a Job's container. It has what the server has not, the token and the way out. Written at its place in a Deployment.
*/}}
{{- define "gpu-inference.download.container" }}
{{- $download := .spec.storage.download }}
        - name: download
  {{- if eq .scheme "hf" }}
          image: {{ include "gpu-inference.download.python" . }}
          command: [python3, /downloader/download.py]
  {{- else }}
          image: {{ toJson $download.rcloneImage }}
          command: [sh, /downloader/download.sh]
  {{- end }}
          imagePullPolicy: {{ .spec.image.pullPolicy }}
          env:
            {{- include "gpu-inference.download.env" . }}
          {{- template "gpu-inference.download.rest" . }}
            - {name: cache, mountPath: /cache}
{{- end }}

{{/*
gpu-inference.download.wait: the init container of pods whose model a Job downloads.
*/}}
{{- define "gpu-inference.download.wait" }}
        - name: download
          image: {{ include "gpu-inference.download.python" . }}
          command: [python3, /downloader/download.py, wait]
          imagePullPolicy: {{ .spec.image.pullPolicy }}
          env:
            - {name: NVIDIA_VISIBLE_DEVICES, value: void}
            - {name: DOWNLOAD, value: {{ dict "folder" .folder "path" .spec.model.path | toJson | toJson }}}
          {{- template "gpu-inference.download.rest" . }}
            - {name: cache, mountPath: /cache, readOnly: true}
{{- end }}

{{/*
gpu-inference.download.rest: less than any server asks for, so that the pod is as easy to place as without it.
*/}}
{{- define "gpu-inference.download.rest" }}
          resources:
            requests: {cpu: 100m, memory: 256Mi, ephemeral-storage: 64Mi}
            limits: {cpu: "4", memory: 2Gi, ephemeral-storage: 64Mi}
          securityContext:
            {{- include "gpu-inference.security.container" .spec.security | nindent 12 }}
          volumeMounts:
            - {name: downloader, mountPath: /downloader, readOnly: true}
{{- end }}

{{- define "gpu-inference.download.python" -}}
{{ or (get .spec.storage.download "image") .spec.test.image (include "gpu-inference.container.image" .spec.image) | toJson }}
{{- end }}

{{/*
gpu-inference.download.env: what the script reads, and storage.download.env over it.
*/}}
{{- define "gpu-inference.download.env" }}
{{- $s := .spec }}
{{- $download := $s.storage.download }}
{{- $env := dict }}
{{- $allow := $download.allow }}
{{- with get $s.model "file" }}{{ if not $allow }}{{ $allow = list . (print . "/*") }}{{ end }}{{ end }}
{{- if eq .scheme "hf" }}
  {{- /* Where the container runtime goes by it, the model's image would get every GPU of the node. */}}
  {{- $_ := set $env "NVIDIA_VISIBLE_DEVICES" "void" }}
  {{- $path := print .folder "/" .rest }}
  {{- $wanted := dict "source" $s.model.source "revision" (get $s.model "revision") "folder" .folder "path" $path }}
  {{- $_ := set $env "DOWNLOAD" (mustMergeOverwrite $wanted (dict "allow" $allow "ignore" $download.ignore "pickles" $download.pickles) | toJson) }}
  {{- with $s.model.tokenSecret }}{{ $_ := set $env "HF_TOKEN" (dict "secretKeyRef" .) }}{{ end }}
{{- else }}
  {{- include "gpu-inference.download.objects" (dict "m" . "env" $env "allow" $allow) }}
{{- end }}
{{- range $name, $value := $download.env }}{{- $_ := set $env $name $value }}{{ end }}
{{- range $name, $value := $env }}
            - {name: {{ $name }}, {{ if kindIs "map" $value }}valueFrom: {{ toJson $value }}{{ else }}value: {{ toJson $value }}{{ end }}}
{{- end }}
{{- end }}

{{/*
gpu-inference.download.objects adds what files/download.sh reads, and where rclone takes credentials from: the environment, or the
workload's identity. Takes {m, env, allow}.
*/}}
{{- define "gpu-inference.download.objects" -}}
{{- $download := .m.spec.storage.download }}
{{- $source := printf "%s%s" (get (dict "s3" ":s3:" "gs" ":gcs:") .m.scheme) .m.rest }}
{{- if eq .m.scheme "az" }}
  {{- $account := splitList "/" .m.rest | first }}
  {{- $source = printf ":azureblob,account=%s:%s" $account (trimPrefix (print $account "/") .m.rest) }}
{{- end }}
{{- $ignore := $download.ignore }}
{{- if not $download.pickles }}
  {{- $ignore = concat $ignore (list "*.bin" "*.pt" "*.pth" "*.pkl" "*.pickle" "*.ckpt" "*.joblib" "*.h5" "*.keras") }}
{{- end }}
{{- range $name, $value := dict
    "SOURCE" $source "FOLDER" .m.folder "TARGET" (print .m.folder "/" .m.rest) "ALLOW" (join "\n" .allow) "IGNORE" (join "\n" $ignore)
    "RCLONE_S3_PROVIDER" "AWS" "RCLONE_S3_ENV_AUTH" "true" "RCLONE_GCS_ENV_AUTH" "true" "RCLONE_AZUREBLOB_ENV_AUTH" "true" }}
  {{- $_ := set $.env $name $value }}
{{- end }}
{{- end }}

{{/*
gpu-inference.download.pod is the spec of a Job's pod.
*/}}
{{- define "gpu-inference.download.pod" }}
      restartPolicy: OnFailure
      serviceAccountName: {{ include "gpu-inference.pod.serviceAccount" . }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "gpu-inference.security.pod" .spec.security | nindent 8 }}
      containers:
        {{- template "gpu-inference.download.container" . }}
      volumes:
        - name: cache
          persistentVolumeClaim: {claimName: {{ include "gpu-inference.download.claim" . }}}
        - name: downloader
          configMap: {name: {{ include "gpu-inference.labels.fullname" .root }}-download}
{{- end }}

{{- define "gpu-inference.download.claim" -}}
{{ if hasKey .spec.storage.download "claim" }}{{ .spec.storage.download.claim }}{{ else }}{{ .fullname }}-cache{{ end }}
{{- end }}
