{{- define "collective.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "collective.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "collective.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "collective.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "collective.operator" -}}
{{ include "collective.fullname" . }}-operator
{{- end }}

{{- define "collective.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "collective.operator" .) .Values.serviceAccount.name }}
{{- else -}}
{{ required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* The name is not "collective": by that the pods of members are known. */ -}}
{{- define "collective.selector" -}}
app.kubernetes.io/name: collective-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "collective.labels" -}}
{{ include "collective.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: collective
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "collective.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}
