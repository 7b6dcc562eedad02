{{- define "clawdbot.name" -}}
{{- $name := .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- if contains "clawdbot" $name }}{{ $name }}{{ else }}{{ printf "%s-clawdbot" $name }}{{ end }}
{{- end }}

{{- define "clawdbot.secret" -}}
{{- .Values.existingSecret | default (include "clawdbot.name" .) }}
{{- end }}

{{- define "clawdbot.selector" -}}
app.kubernetes.io/name: clawdbot
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "clawdbot.labels" -}}
{{ include "clawdbot.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* A pod template changes with its settings, so that a changed setting is rolled out. */}}
{{- define "clawdbot.annotations" -}}
checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
checksum/secret: {{ include (print $.Template.BasePath "/secret.yaml") . | sha256sum }}
{{- end }}

{{/* Where the pods of a component may run: as far apart as there is room. For (dict "root" $ "component" …). */}}
{{- define "clawdbot.placement" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "clawdbot.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- end }}

{{/* What all pods have in common. Service links would be taken for settings. */}}
{{- define "clawdbot.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
{{- range .Values.volumes }}
  - {{ toJson . }}
{{- end }}
{{- end }}

{{- define "clawdbot.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
envFrom:
  - configMapRef: { name: {{ include "clawdbot.name" . }} }
  - secretRef: { name: {{ include "clawdbot.secret" . }} }
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- range .Values.volumeMounts }}
  - {{ toJson . }}
{{- end }}
{{- end }}
