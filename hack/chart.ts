// What of the chart is made and not written: its versions (those of package.json), the table of its values (from the comments in
// values.yaml and the types in values.schema.json, which must name the same values), and the dashboard.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMap, isScalar, parse, parseDocument, type YAMLMap } from 'yaml';
import { dashboard } from './dashboard.ts';
import { REPOSITORY_ROOT } from './repository.ts';

const CHART = 'charts/collective';

interface ValueSchema {
  readonly $ref?: string;
  readonly $defs?: Readonly<Record<string, ValueSchema>>;
  readonly title?: string;
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, ValueSchema>>;
  readonly additionalProperties?: unknown;
}

interface Value {
  readonly path: string;
  readonly type: string;
  readonly fallback: string;
  readonly meaning: string;
}

/** Text by path. */
export function chartFiles(): ReadonlyMap<string, string> {
  const { version } = JSON.parse(readText('package.json')) as { version: string };
  return new Map([
    [`${CHART}/Chart.yaml`, withVersion(readText(`${CHART}/Chart.yaml`), version)],
    [`${CHART}/README.md`, readme(valuesOf(readText(`${CHART}/values.yaml`), readText(`${CHART}/values.schema.json`)))],
    [`${CHART}/dashboards/collective.json`, `${JSON.stringify(dashboard(), undefined, 2)}\n`],
  ]);
}

export function withVersion(chartYaml: string, version: string): string {
  return chartYaml.replaceAll(/^(version|appVersion): .*$/gm, `$1: ${version}`);
}

/** Every value with its comment. Throws for one that has no comment, or that only one of the two files knows. */
export function valuesOf(valuesYaml: string, schemaJson: string): readonly Value[] {
  const schema = JSON.parse(schemaJson) as ValueSchema;
  const document = parseDocument(valuesYaml);
  if (!isMap(document.contents)) throw new Error('Read values.yaml: it is no map');
  const values = [...valuesIn(document.contents, schema, schema, '', document.commentBefore ?? '')];
  const known = new Set(values.map(({ path }) => path));
  const missing = [...leavesOf(schema, schema, '')].filter((path) => !known.has(path) && path !== 'global');
  if (missing.length > 0) throw new Error(`Describe values: values.yaml does not name ${missing.join(', ')}`);
  return values;
}

function* valuesIn(
  map: YAMLMap,
  schema: ValueSchema,
  root: ValueSchema,
  prefix: string,
  firstComment: string,
): Generator<Value> {
  let comment = map.commentBefore ?? firstComment;
  for (const { key, value } of map.items) {
    if (!isScalar(key)) throw new Error('Read values.yaml: a key is no word');
    const path = `${prefix}${String(key.value)}`;
    const described = resolve(schema.properties?.[String(key.value)], root);
    if (described === undefined) throw new Error(`Describe ${path}: values.schema.json does not name it`);
    const said = key.commentBefore ?? comment;
    comment = '';
    if (described.properties !== undefined && isMap(value) && path !== 'operator.resources') {
      yield* valuesIn(value, described, root, `${path}.`, '');
      continue;
    }
    const meaning = said
      .split('\n')
      .map((line) => line.trim())
      .join(' ')
      .trim();
    if (meaning === '') throw new Error(`Describe ${path}: values.yaml has no comment before it`);
    const fallback = JSON.stringify((value as { toJSON?: () => unknown } | null)?.toJSON?.() ?? null);
    yield { path, type: typeOf(described), fallback, meaning };
  }
}

function* leavesOf(schema: ValueSchema, root: ValueSchema, prefix: string): Generator<string> {
  for (const [name, each] of Object.entries(schema.properties ?? {})) {
    const child = resolve(each, root) ?? each;
    const path = `${prefix}${name}`;
    if (child.properties === undefined || path === 'operator.resources') yield path;
    else yield* leavesOf(child, root, `${path}.`);
  }
}

function resolve(schema: ValueSchema | undefined, root: ValueSchema): ValueSchema | undefined {
  const name = schema?.$ref?.replace('#/$defs/', '');
  return name === undefined ? schema : root.$defs?.[name];
}

function typeOf({ title, enum: words, type }: ValueSchema): string {
  return title ?? words?.join(', ') ?? type ?? '';
}

function readme(values: readonly Value[]): string {
  const { description, kubeVersion } = parse(readText(`${CHART}/Chart.yaml`)) as Record<string, string>;
  const rows = values.map(
    ({ path, type, fallback, meaning }) => `| \`${path}\` | ${cell(type)} | \`${cell(fallback)}\` | ${cell(meaning)} |`,
  );
  return `# The chart collective

${description} Kubernetes ${kubeVersion?.replace('-0', '')}, cert-manager 1.21 or newer.

\`\`\`console
$ helm install collective charts/collective --namespace collective-system --create-namespace
\`\`\`

[Installing](../../docs/operating/kubernetes-install.md) and [upgrading](../../docs/operating/kubernetes-upgrade.md) say more. The table is made by \`npm run generate\` from the
comments in \`values.yaml\` and from \`values.schema.json\`, which refuses every value that is not named here.

| value | type | default | meaning |
| --- | --- | --- | --- |
${rows.join('\n')}
`;
}

/** A bar would end the cell. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function readText(path: string): string {
  return readFileSync(join(REPOSITORY_ROOT, path), 'utf8');
}
