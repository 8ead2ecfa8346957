// Which test holds which rule of docs/design.md. Tests name the rules in their titles ("D4: a failed fsync ..."); this reads
// the titles, makes the page of rules from them, and says which rules no test names.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY_ROOT } from './repository.ts';

export const RULES_PAGE = 'docs/reference/rules.md';

/** Rules whose parts are built: each must be named by a test. */
const BUILT: readonly string[] = [
  ...['T1', 'T2', 'T3', 'T3a', 'T4', 'T5', 'T6'],
  ...['M1', 'M2', 'M2a', 'M3', 'M4', 'M5', 'M6', 'M7', 'M8', 'M9', 'M10'],
  ...['D1', 'D2', 'D3', 'D4', 'D5', 'D6', 'D7', 'D8', 'D10'],
  ...['K1', 'K2', 'K3'],
];

export interface HeldRule {
  readonly rule: string;
  readonly tests: readonly { readonly path: string; readonly title: string }[];
}

const TITLE = /\b(?:test|it|describe)\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1|\bname:\s*(['"`])((?:\\.|(?!\3)[^\\])*)\3/gs;
const MARK = /\b(?:T\d+a?|M\d+a?|D\d+|F\d+|K\d+)\b/g;

/** Every rule that a title names, in the order of the design. */
export function heldRules(files: readonly { readonly path: string; readonly text: string }[]): HeldRule[] {
  const held = new Map<string, { path: string; title: string }[]>();
  for (const { path, text } of files) {
    for (const match of text.matchAll(TITLE)) {
      const title = (match[2] ?? match[4] ?? '').replaceAll(/\s+/g, ' ');
      for (const rule of new Set(title.match(MARK) ?? [])) held.set(rule, [...(held.get(rule) ?? []), { path, title }]);
    }
  }
  return [...held].map(([rule, tests]) => ({ rule, tests })).sort((a, b) => order(a.rule) - order(b.rule));
}

export function rulesWithoutTest(held: readonly HeldRule[]): string[] {
  return BUILT.filter((rule) => !held.some((each) => each.rule === rule));
}

export function rulesPage(paths: readonly string[]): string {
  const held = heldRules(testFiles(paths));
  const lines = [
    '# Which test holds which rule',
    '',
    'Made from the titles of the tests by `npm run generate`. The rules are those of [the design](../design.md).',
    '',
  ];
  for (const { rule, tests } of held) {
    lines.push(`## ${rule}`, '');
    for (const { path, title } of tests) lines.push(`- \`${path}\`: ${title.replaceAll('|', '\\|')}`);
    lines.push('');
  }
  return lines.join('\n');
}

export function testFiles(paths: readonly string[]): { path: string; text: string }[] {
  return paths
    .filter((path) => /(\.test|\.fuzz|-contract)\.ts$/.test(path) && !path.startsWith('hack/'))
    .map((path) => ({ path, text: readFileSync(join(REPOSITORY_ROOT, path), 'utf8') }));
}

/** T before M before D before F before K, then by number. */
function order(rule: string): number {
  return (
    'TMDFK'.indexOf(rule.charAt(0)) * 1_000 + Number.parseInt(rule.slice(1), 10) * 2 + (rule.endsWith('a') ? 1 : 0)
  );
}
