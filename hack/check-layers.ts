// Holds the direction between the rooms: base <- protocol <- client <- cli, operator, and protocol <- coordinator, node. Servers never
// import each other; only the command line, which starts them, imports both; test and hack may import every room and no room
// imports them, but that test uses the lab which hack builds. An import of a type counts as much as one of a value: who names another room's type depends on it.

import { parseSync, Visitor } from 'oxc-parser';
import { type Finding, lineAt, type SourceFile } from './finding.ts';

const PACKAGE_SCOPE = '@collective/';

/** Which rooms the code of a room may import, besides itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  protocol: ['base'],
  client: ['base', 'protocol'],
  coordinator: ['base', 'protocol'],
  node: ['base', 'protocol'],
  operator: ['base', 'protocol', 'client'],
  cli: ['base', 'protocol', 'client', 'coordinator', 'node'],
  test: ['base', 'protocol', 'client', 'coordinator', 'node', 'operator', 'cli', 'hack'],
  hack: ['base', 'protocol', 'client', 'coordinator', 'node', 'operator', 'cli'],
};

export function findLayerBreaches(files: readonly SourceFile[]): Finding[] {
  return files.filter(({ path }) => path.endsWith('.ts') && path.includes('/')).flatMap(breachesOfFile);
}

function breachesOfFile({ path, text }: SourceFile): Finding[] {
  const room = firstSegment(path);
  const allowed = MAY_IMPORT[room];
  if (allowed === undefined) {
    return [
      { path, line: 1, message: `the folder "${room}" is no known room: add it to MAY_IMPORT in hack/check-layers.ts` },
    ];
  }
  const found: Finding[] = [];
  for (const { specifier, offset } of importsOf(path, text)) {
    const target = targetRoom(path, specifier);
    if (target === undefined || (target === room && !specifier.startsWith('.'))) continue;
    const line = lineAt(text, offset);
    if (specifier.startsWith('.')) {
      if (target !== room) {
        const message = `imports "${specifier}" out of its own room: rooms see each other only through ${PACKAGE_SCOPE}<room>`;
        found.push({ path, line, message });
      }
    } else if (!allowed.includes(target)) {
      const rooms = allowed.length === 0 ? 'no other room' : `only ${allowed.join(', ')}`;
      found.push({ path, line, message: `imports "${specifier}", but ${room} may import ${rooms}` });
    }
  }
  return found;
}

function targetRoom(path: string, specifier: string): string | undefined {
  if (specifier.startsWith(PACKAGE_SCOPE)) return firstSegment(specifier.slice(PACKAGE_SCOPE.length));
  if (!specifier.startsWith('.')) return undefined;
  return firstSegment(new URL(specifier, `file:///${path}`).pathname.slice(1));
}

function firstSegment(path: string): string {
  return path.split('/', 1)[0] ?? '';
}

function importsOf(path: string, text: string): { specifier: string; offset: number }[] {
  const { program } = parseSync(path, text);
  const imports: { specifier: string; offset: number }[] = [];
  const add = (source: { type: string; start: number; value?: unknown } | null): void => {
    if (source !== null && typeof source.value === 'string')
      imports.push({ specifier: source.value, offset: source.start });
  };
  new Visitor({
    ImportDeclaration: (node) => add(node.source),
    ExportAllDeclaration: (node) => add(node.source),
    ExportNamedDeclaration: (node) => add(node.source),
    ImportExpression: (node) => add(node.source),
    TSImportType: (node) => add(node.source),
  }).visit(program);
  return imports;
}
