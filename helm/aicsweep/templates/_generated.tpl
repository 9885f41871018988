{{/* Made by `make generate`; do not edit. */}}
{{- define "aicsweep.rules.sweeps" -}}
# What is wanted; how far it is.
- apiGroups: ["aicsweep.dev"]
  resources: ["sweeps"]
  verbs: ["list", "watch"]
- apiGroups: ["aicsweep.dev"]
  resources: ["sweeps/status"]
  verbs: ["patch"]
# The stages of a Sweep.
- apiGroups: ["batch"]
  resources: ["jobs"]
  verbs: ["list", "watch", "get", "create", "patch", "delete"]
# What pods said when they ended, and why they wait.
- apiGroups: [""]
  resources: ["pods"]
  verbs: ["list"]
# What happened to a Sweep, for its author.
- apiGroups: ["events.k8s.io"]
  resources: ["events"]
  verbs: ["create"]
{{- end }}
{{- define "aicsweep.rules.nodes" -}}
# Which nodes have devices, for everyNode and everyDevice.
- apiGroups: [""]
  resources: ["nodes"]
  verbs: ["list"]
{{- end }}
{{- define "aicsweep.rules.lease" -}}
# Which of several controllers acts.
- apiGroups: ["coordination.k8s.io"]
  resources: ["leases"]
  verbs: ["create"]
# Which of several controllers acts.
- apiGroups: ["coordination.k8s.io"]
  resources: ["leases"]
  verbs: ["get", "patch"]
  resourceNames: [{{ include "aicsweep.controllerName" . | quote }}]
{{- end }}
{{- define "aicsweep.podLabels" -}}
app.kubernetes.io/managed-by: aicsweep
{{- end }}
{{- define "aicsweep.user" -}}
65532
{{- end }}
{{- define "aicsweep.secretKeys" -}}
["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL"]
{{- end }}
