// The CustomResourceDefinitions as files: plain ones in crds/ for people who apply them by hand, and as templates of the chart,
// which can leave them out (crds.enabled) and keeps them when it is uninstalled (crds.keep).

import { customResourceDefinitions } from '@collective/operator/api/custom-resource';
import { stringify } from 'yaml';

const MADE_BY = '# Made by `npm run generate` from operator/src/api; do not edit it here.\n';

/** Text by path. */
export function crdFiles(): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const definition of customResourceDefinitions()) {
    const { group } = definition.spec;
    const plural = definition.metadata.name.slice(0, -group.length - 1);
    const body = toYaml({ spec: definition.spec });
    const { apiVersion, kind, metadata } = definition;
    files.set(`crds/${group}_${plural}.yaml`, `${MADE_BY}${toYaml({ apiVersion, kind, metadata })}${body}`);
    files.set(`charts/collective/templates/crds/${plural}.yaml`, template(definition.metadata.name, body));
  }
  return files;
}

function template(name: string, body: string): string {
  if (body.includes('{{')) throw new Error(`Make a template of ${name}: it holds "{{", which Helm would read`);
  return `{{- /* Made by \`npm run generate\` from operator/src/api; do not edit it here. */ -}}
{{- if and .Values.crds.enabled (not .Values.watchNamespaces) }}
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: ${name}
  labels:
    {{- include "collective.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
${body}{{- end }}
`;
}

function toYaml(value: object): string {
  // No anchors: what two fields share is written twice, as everybody expects of a CRD.
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
}
