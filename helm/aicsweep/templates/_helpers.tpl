{{/* The release's name, with the chart's in it. Short enough for what is put behind it, and for 63 in all. */}}
{{- define "aicsweep.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) -}}{{- $name = printf "%s-%s" $name .Chart.Name -}}{{- end -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "aicsweep.controllerName" -}}
{{ include "aicsweep.fullname" . }}-controller
{{- end }}

{{- define "aicsweep.storeName" -}}
{{ include "aicsweep.fullname" . }}-store
{{- end }}

{{/* Of what is no namespace's: two releases of one name, in two namespaces, must not meet. */}}
{{- define "aicsweep.clusterName" -}}
{{ printf "%s:%s" .Release.Namespace (include "aicsweep.controllerName" .) }}
{{- end }}

{{- define "aicsweep.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "aicsweep.selectorLabels" . }}
{{- end }}

{{/* For ever: a Deployment's selector can't be changed. */}}
{{- define "aicsweep.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aicsweep.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (include "aicsweep.controllerName" .) }}
{{- end }}

{{/* Called with (dict "image" IMAGE "root" $). A digest wins over the tag. */}}
{{- define "aicsweep.image" -}}
{{- with .root.Values.images.registry }}{{ . }}/{{ end -}}
{{- include "aicsweep.imageAt" (dict "image" .image "tag" .root.Chart.AppVersion) -}}
{{- end }}

{{- define "aicsweep.imageAt" -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .tag }}{{ end -}}
{{- end }}

{{/* Requests and limits, without the entries that are empty. */}}
{{- define "aicsweep.resources" -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $name, $amount := index $ $kind }}
  {{- with $amount }}
  {{ $name }}: {{ . | quote }}
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "aicsweep.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ include "aicsweep.user" . }}
runAsGroup: {{ include "aicsweep.user" . }}
fsGroup: {{ include "aicsweep.user" . }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "aicsweep.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "aicsweep.storeUrl" -}}
{{- if .Values.store.dev.enabled }}s3://{{ .Values.store.dev.bucket }}/aicsweep{{ else }}{{ .Values.store.url }}{{ end -}}
{{- end }}

{{- define "aicsweep.storeSecret" -}}
{{- if .Values.store.dev.enabled -}}
{{ .Values.store.dev.secretName | default (include "aicsweep.storeName" .) }}
{{- else -}}
{{ .Values.store.secretName }}
{{- end -}}
{{- end }}

{{- define "aicsweep.storeEndpoint" -}}
http://{{ include "aicsweep.storeName" . }}.{{ .Release.Namespace }}.svc:8333
{{- end }}

{{/* What no schema says; all problems at once. */}}
{{- define "aicsweep.validate" -}}
{{- $problems := list -}}
{{- with .Values.store -}}
{{- if and .dev.enabled .url -}}
{{- $problems = append $problems "store.url: must be empty with store.dev.enabled, whose bucket Sweeps use then" -}}
{{- end -}}
{{- if and .dev.enabled .secretName -}}
{{- $problems = append $problems "store.secretName: must be empty with store.dev.enabled; its Secret is store.dev.secretName" -}}
{{- end -}}
{{- if and .secretName (not .url) (not .dev.enabled) -}}
{{- $problems = append $problems "store.secretName: is of no use without store.url" -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- $problems = append $problems "serviceAccount.name: is needed where serviceAccount.create is false" -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n  %s\n" (join "\n  " $problems)) -}}
{{- end -}}
{{- end }}
