// docs/reference/crds.md, made from the schemas themselves: every field with its type, bounds, rules and meaning.

import { type CustomResourceDefinition, customResourceDefinitions } from '@collective/operator/api/custom-resource';
import { ANNOTATIONS_EXPLAINED, CONDITIONS_EXPLAINED } from '@collective/operator/api/group';
import type { JsonSchema } from '@collective/operator/api/schema';

export const CRDS_PAGE = 'docs/reference/crds.md';

export function crdsPage(): string {
  const kinds = customResourceDefinitions().map(kindSection).join('\n');
  return `# Collective and Member

Made by \`npm run generate\` from \`operator/src/api\`; do not edit it here.

The API is \`collective.storage/v1alpha1\`. A field is optional unless it says *required*. "Absent" is what holds when nothing is said; a
*default* is written into the object by the apiserver. \`kubectl explain member.spec\` tells the same.

${kinds}
## Annotations of a Member
What is done once is asked for by an annotation, never by a change of the spec.

${table(
  ['annotation', 'meaning'],
  Object.entries(ANNOTATIONS_EXPLAINED).map(([name, meaning]) => [`\`${name}\``, meaning]),
)}
## Conditions
${table(
  ['type', 'True means'],
  Object.entries(CONDITIONS_EXPLAINED).map(([type, meaning]) => [`\`${type}\``, meaning]),
)}`;
}

function kindSection({ spec }: CustomResourceDefinition): string {
  const [{ schema, additionalPrinterColumns }] = spec.versions;
  const { openAPIV3Schema: root } = schema;
  const { shortNames = [] } = spec.names as { shortNames?: readonly string[] };
  const rules = (root['x-kubernetes-validations'] ?? []).map(
    ({ fieldPath = '', message }) => `- \`${fieldPath.slice(1)}\` ${message}.`,
  );
  const columns = additionalPrinterColumns.map(({ name, priority, description }) => [
    priority === 1 ? `${name} (wide)` : name,
    description,
  ]);
  return `## ${spec.names.kind}
${root.description} Short name \`${shortNames.join('`, `')}\`, category \`collective-storage\`.

${rules.join('\n')}

${table(['column', 'shows'], columns)}
### ${spec.names.kind} spec
${fieldTable('spec', root)}
### ${spec.names.kind} status
${fieldTable('status', root)}`;
}

function fieldTable(name: string, root: JsonSchema): string {
  const schema = root.properties?.[name];
  if (schema === undefined) throw new Error(`Describe ${name}: the schema has no such field`);
  const rows = rowsOf(name, schema, root.required?.includes(name) ?? false);
  return table(['field', 'type', 'meaning and rules'], [...rows]);
}

function* rowsOf(path: string, schema: JsonSchema, isRequired: boolean): Generator<string[]> {
  const type = isRequired ? `${typeOf(schema)}, *required*` : typeOf(schema);
  const fixed = schema.default === undefined ? [] : [`Default: \`${String(schema.default)}\`.`];
  const rules = (schema['x-kubernetes-validations'] ?? []).map(
    ({ fieldPath, message }) => `*Rule: ${fieldPath === undefined ? '' : `\`${fieldPath.slice(1)}\` `}${message}.*`,
  );
  yield [`\`${path}\``, type, [schema.description ?? '', ...fixed, ...rules].join(' ')];
  yield* childrenOf(path, schema);
}

function* childrenOf(path: string, schema: JsonSchema): Generator<string[]> {
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    yield* rowsOf(`${path}.${name}`, child, schema.required?.includes(name) ?? false);
  }
  if (schema.items !== undefined) {
    const rules = schema.items['x-kubernetes-validations'] ?? [];
    const isPlain = schema.items.properties === undefined;
    if (isPlain || rules.length > 0) yield* rowsOf(`${path}[]`, schema.items, false);
    else yield* childrenOf(`${path}[]`, schema.items);
  }
}

function typeOf(schema: JsonSchema): string {
  if (schema['x-kubernetes-int-or-string']) return 'quantity';
  if (schema.enum !== undefined) return schema.enum.map((word) => `\`${word}\``).join(', ');
  if (schema.items !== undefined) return listType(schema);
  if (schema.additionalProperties !== undefined) {
    return `map of at most ${schema.maxProperties} to ${typeOf(schema.additionalProperties)}`;
  }
  if (schema.type === 'integer') {
    return `integer${between(schema.minimum, schema.maximum, '')}`;
  }
  if (schema.format === 'date-time') return 'time';
  if (schema.type === 'string') return `string${between(schema.minLength, schema.maxLength, ' characters')}`;
  return schema.type ?? '';
}

function listType(schema: JsonSchema): string {
  const [key] = schema['x-kubernetes-list-map-keys'] ?? [];
  const kind = key === undefined ? 'list' : `list by \`${key}\``;
  return `${kind}${between(schema.minItems, schema.maxItems, '')}`;
}

function between(from: number | undefined, to: number | undefined, unit: string): string {
  if (from === undefined && to === undefined) return '';
  if (to === undefined) return `, ${from} and more`;
  return from === undefined ? `, at most ${to}${unit}` : `, ${from} to ${to}${unit}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cellText).join(' | ')} |`;
  return `${[line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')}\n`;
}

/** A bar would end the cell, and what stands between angle brackets would be taken for a tag. */
function cellText(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '\\<');
}
