{{- /*
What the operator may do where its members are. No verb and no resource is a wildcard.

Secrets: cert-manager makes them, so the operator neither creates nor changes one. It reads them, because the certificate in each
says which authority signed it and when it ends; and it deletes those of authorities that were followed and of users that were taken away. Their names come from Members, so no list of names can be written here, and RBAC knows no labels.
*/ -}}
{{- define "collective.memberRules" -}}
- apiGroups: [collective.storage]
  resources: [collectives, members]
  verbs: [get, list, watch, patch]
- apiGroups: [collective.storage]
  resources: [collectives/status, members/status]
  verbs: [get, patch]
# Where owners are guarded (OwnerReferencesPermissionEnforcement), who names an owner must have this.
- apiGroups: [collective.storage]
  resources: [collectives/finalizers, members/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, delete]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# An annotation tells kubelet to look at volumes at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
# A Member does not hold up a namespace that is being deleted.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [get, list, watch, create, patch, delete]
# Where there is the Prometheus operator, and a Collective asks for it (spec.monitoring).
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, create, patch, delete]
# Written to tell, read to find out why a pod or a volume is not made.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [get, list, watch, create, patch]
- apiGroups: [cert-manager.io]
  resources: [certificates, issuers]
  verbs: [get, list, watch, create, patch, delete]
# The condition Issuing asks for a new leaf at once.
- apiGroups: [cert-manager.io]
  resources: [certificates/status]
  verbs: [get, patch]
# Made for people who enrol with a token; cert-manager approves and answers them.
- apiGroups: [cert-manager.io]
  resources: [certificaterequests]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
