{{/*
gpu-inference.download.container downloads the model into .folder on the volume `cache`: the init container of the server's pods, or
a Job's container. It has what the server has not, the token and the way out. Written at its place in a Deployment.
*/}}
{{- define "gpu-inference.download.container" }}
{{- $download := .spec.storage.download }}
        - name: download
  {{- if eq .scheme "hf" }}
          image: {{ template "gpu-inference.download.python" . }}
          command: [python3, /downloader/download.py]
          env:
            {{- template "gpu-inference.download.env" . }}
            {{- range $name, $value := omit $download.env "NVIDIA_VISIBLE_DEVICES" "DOWNLOAD" }}
            - {name: {{ $name }}, {{ if kindIs "map" $value }}valueFrom{{ else }}value{{ end }}: {{ toJson $value }}}
            {{- end }}
  {{- else }}
          image: {{ include "gpu-inference.container.image" .root.Values.images.rclone | toJson }}
          command: [sh, /downloader/download.sh]
          env:
            {{- template "gpu-inference.download.objects" . }}
  {{- end }}
          {{- template "gpu-inference.download.rest" . }}
            - {name: cache, mountPath: /cache}
{{- end }}

{{/*
gpu-inference.download.wait: the init container of pods whose model a Job downloads.
*/}}
{{- define "gpu-inference.download.wait" }}
        - name: download
          image: {{ template "gpu-inference.download.python" . }}
          command: [python3, /downloader/download.py, wait]
          env:
            - {name: NVIDIA_VISIBLE_DEVICES, value: void}
            - {name: DOWNLOAD, value: {{ dict "folder" .folder "path" .spec.model.path | toJson | toJson }}}
          {{- template "gpu-inference.download.rest" . }}
            - {name: cache, mountPath: /cache, readOnly: true}
{{- end }}

{{/*
gpu-inference.download.rest: it asks for less than any server, so that the pod is as easy to place as without it.
*/}}
{{- define "gpu-inference.download.rest" }}
          imagePullPolicy: {{ .spec.image.pullPolicy }}
          resources:
            requests: {cpu: 100m, memory: 256Mi, ephemeral-storage: 64Mi}
            limits: {cpu: "4", memory: 2Gi, ephemeral-storage: 64Mi}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
          volumeMounts:
            - {name: downloader, mountPath: /downloader, readOnly: true}
{{- end }}

{{- define "gpu-inference.download.python" -}}
{{ with or .spec.storage.download.image .spec.test.image }}{{ toJson . }}{{ else }}{{ .image }}{{ end }}
{{- end }}

{{/*
gpu-inference.download.env: what files/download.py reads.
*/}}
{{- define "gpu-inference.download.env" }}
{{- $model := .spec.model }}
{{- $download := .spec.storage.download }}
{{- $wanted := dict "source" $model.source "folder" .folder "path" (print .folder "/" .rest) }}
{{- with $model.revision }}{{ $_ := set $wanted "revision" . }}{{ end }}
{{- with .allow }}{{ $_ := set $wanted "allow" . }}{{ end }}
{{- with $download.ignore }}{{ $_ := set $wanted "ignore" . }}{{ end }}
{{- with $download.pickles }}{{ $_ := set $wanted "pickles" . }}{{ end }}
            {{- /* Where the container runtime goes by it, the model's image would get every GPU of the node. */}}
            - {name: NVIDIA_VISIBLE_DEVICES, value: void}
            - {name: DOWNLOAD, value: {{ $wanted | toJson | toJson }}}
            {{- if and (hasKey $model "tokenSecret") (not (hasKey $download.env "HF_TOKEN")) }}
            - {name: HF_TOKEN, valueFrom: {secretKeyRef: {{ toJson $model.tokenSecret }}}}
            {{- end }}
{{- end }}

{{/*
gpu-inference.download.objects: what files/download.sh reads, where rclone takes credentials from, which is the environment or the
workload's identity, and storage.download.env over it.
*/}}
{{- define "gpu-inference.download.objects" }}
{{- $download := .spec.storage.download }}
{{- $source := printf "%s%s" (get (dict "s3" ":s3:" "gs" ":gcs:") .scheme) .rest }}
{{- if eq .scheme "az" }}
  {{- $account := splitList "/" .rest | first }}
  {{- $source = printf ":azureblob,account=%s:%s" $account (trimPrefix (print $account "/") .rest) }}
{{- end }}
{{- $ignore := $download.ignore }}
{{- if not $download.pickles }}
  {{- $ignore = concat $ignore (list "*.bin" "*.pt" "*.pth" "*.pkl" "*.pickle" "*.ckpt" "*.joblib" "*.h5" "*.keras") }}
{{- end }}
{{- $env := dict
    "SOURCE" $source "FOLDER" .folder "TARGET" (print .folder "/" .rest) "ALLOW" (join "\n" .allow) "IGNORE" (join "\n" $ignore)
    "RCLONE_S3_PROVIDER" "AWS" "RCLONE_S3_ENV_AUTH" "true" "RCLONE_GCS_ENV_AUTH" "true" "RCLONE_AZUREBLOB_ENV_AUTH" "true" }}
{{- range $name, $value := $download.env }}{{- $_ := set $env $name $value }}{{ end }}
{{- range $name, $value := $env }}
            - {name: {{ $name }}, {{ if kindIs "map" $value }}valueFrom{{ else }}value{{ end }}: {{ toJson $value }}}
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
      securityContext: {{ template "gpu-inference.security.pod" .spec.security }}
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
