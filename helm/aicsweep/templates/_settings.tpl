{{/* The controller's environment, see k8s/settings.py. What is empty has the default that stands there. */}}
{{- define "aicsweep.settings" -}}
{{- $image := .Values.images -}}
{{- $given := dict
  "namespaces" (join "," .Values.watchNamespaces)
  "cluster" .Values.cluster
  "store" (include "aicsweep.storeUrl" .)
  "store_secret" (include "aicsweep.storeSecret" .)
  "build_image" (include "aicsweep.image" (dict "image" $image.build "root" $))
  "measure_image" (include "aicsweep.image" (dict "image" $image.measure "root" $))
  "image_pull_policy" $image.pullPolicy
  "lease_namespace" .Release.Namespace
  "lease_name" (include "aicsweep.controllerName" .)
  "listen" ":8080"
-}}
{{- if .Values.pods }}{{- $_ := set $given "pods" (toJson .Values.pods) }}{{- end }}
{{- if or .Values.proxy.http .Values.proxy.https }}
{{- $_ := set $given "http_proxy" .Values.proxy.http }}
{{- $_ := set $given "https_proxy" .Values.proxy.https }}
{{- $_ := set $given "no_proxy" .Values.proxy.noProxy }}
{{- end }}
{{- range $name, $value := merge (dict) .Values.controller.settings $given }}
{{- if ne (toString $value) "" }}
- name: AICSWEEP_{{ upper $name }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end }}
# Unique, and told apart by people who read the Lease.
- name: AICSWEEP_IDENTITY
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
