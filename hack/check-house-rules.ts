// The rules of the house that no bought tool holds for us, each as a small program over the text or the syntax tree. Biome
// holds some of them too, but its findings can be silenced by a comment; these cannot.

import { type CallExpression, type ObjectExpression, parseSync, Visitor } from 'oxc-parser';
import { type Finding, lineAt, type SourceFile } from './finding.ts';

const FILE_LINES_MAX = 900;
const TEXT_FILE = /(\.(ts|js|mjs|cjs|json|ya?ml|proto|sh|md|txt)|(^|\/)[^./]+|\.npmrc)$/;
const TEXT_ENDING = /(\.(ts|proto|ya?ml|sh)|(^|\/)[^./]+)$/;
const NO_CONTENT_NAME = /(^|\/)(utils?|helpers?|common|misc)(\.ts|\/)/;

// Written with character classes so that this file does not find itself.
const UNFINISHED_MARK = /\b(TOD[O]|FIXM[E]|XX[X]|HAC[K])\b/g;
const MACHINE_PATH = /\/(?:wor[k]|far[m])\/|\/tmp\/bash_job[s]|\/User[s]\/\w/g;
const UNMERGED = /^(?:<{7}|>{7}) .*$/gm;
const SILENCED_COMPILER = /@ts-(?:ignor[e]|nochec[k])/g;

const TEST_FUNCTIONS = new Set(['test', 'it', 'describe', 'suite']);
const TEST_CONTEXTS = new Set(['t', 'context']);

export function isRuledByTheHouse(path: string): boolean {
  return TEXT_FILE.test(path) && !path.includes('/gen/') && path !== 'package-lock.json';
}

export function findHouseRuleBreaches(files: readonly SourceFile[]): Finding[] {
  return files
    .filter(({ path }) => isRuledByTheHouse(path))
    .flatMap((file) => [
      ...pathFindings(file),
      ...textFindings(file),
      ...(file.path.endsWith('.ts') ? [...lengthFindings(file), ...syntaxFindings(file)] : []),
    ]);
}

function pathFindings({ path }: SourceFile): Finding[] {
  if (!NO_CONTENT_NAME.test(path)) return [];
  return [
    { path, line: 1, message: 'the name says nothing of the content: name the file or folder after the noun it holds' },
  ];
}

function lengthFindings({ path, text }: SourceFile): Finding[] {
  const lines = lineAt(text, text.length);
  if (lines <= FILE_LINES_MAX) return [];
  return [
    {
      path,
      line: FILE_LINES_MAX,
      message: `${lines} lines, at most ${FILE_LINES_MAX}: a second noun earns a second file`,
    },
  ];
}

function textFindings({ path, text }: SourceFile): Finding[] {
  const findAll = (pattern: RegExp, say: (match: string) => string): Finding[] =>
    [...text.matchAll(pattern)].map((match) => ({ path, line: lineAt(text, match.index), message: say(match[0]) }));
  return [
    ...findAll(
      MACHINE_PATH,
      (match) => `"${match}" is a path of one machine: take it from an argument, mkdtemp or import.meta`,
    ),
    ...findAll(UNMERGED, (match) => `"${match}" is left of a merge: choose one side, or both`),
    ...(TEXT_ENDING.test(path) ? findAll(UNFINISHED_MARK, (match) => `"${match}": do it now or open an issue`) : []),
    ...(path.endsWith('.ts')
      ? findAll(SILENCED_COMPILER, (match) => `"${match}" silences the compiler: mend the type`)
      : []),
  ];
}

function syntaxFindings({ path, text }: SourceFile): Finding[] {
  const { program, errors } = parseSync(path, text);
  const found: Finding[] = [];
  const add = (node: { start: number }, message: string): void => {
    found.push({ path, line: lineAt(text, node.start), message });
  };
  for (const error of errors) add({ start: error.labels[0]?.start ?? 0 }, `does not parse: ${error.message}`);
  new Visitor({
    CatchClause(node) {
      if (node.body.body.length === 0)
        add(node, 'an empty catch swallows the error: handle it, or return what it means');
    },
    TSAnyKeyword(node) {
      add(node, '"any" turns the type checker off: use unknown and narrow it');
    },
    CallExpression(node) {
      const message = unfairTest(node);
      if (message !== undefined) add(node, message);
    },
  }).visit(program);
  return found;
}

/** What is wrong with a call that registers a test or leaves one out. Leaving out at run time, with a reason, is allowed. */
function unfairTest(call: CallExpression): string | undefined {
  const { callee } = call;
  if (
    callee.type === 'MemberExpression' &&
    callee.object.type === 'Identifier' &&
    callee.property.type === 'Identifier'
  ) {
    const [subject, verb] = [callee.object.name, callee.property.name];
    if (TEST_FUNCTIONS.has(subject) && (verb === 'only' || verb === 'skip' || verb === 'todo')) {
      return `${subject}.${verb} keeps tests from running: remove it, or skip at run time with a reason`;
    }
    if (TEST_CONTEXTS.has(subject) && verb === 'todo') return `${subject}.todo: write the test or leave it out`;
    if (TEST_CONTEXTS.has(subject) && verb === 'skip' && call.arguments.length === 0) {
      return `${subject}.skip() gives no reason: say what is missing on this machine`;
    }
  }
  if (callee.type !== 'Identifier' || !TEST_FUNCTIONS.has(callee.name)) return undefined;
  const options = call.arguments.find((argument): argument is ObjectExpression => argument.type === 'ObjectExpression');
  for (const property of options?.properties ?? []) {
    if (property.type !== 'Property' || property.key.type !== 'Identifier') continue;
    const option = property.key.name;
    if (option === 'only' || option === 'todo') return `option "${option}" keeps tests from running: remove it`;
    if (option === 'skip' && property.value.type === 'Literal' && property.value.value !== false) {
      return 'option "skip" is always on: remove the test, or skip only where something is missing';
    }
  }
  return undefined;
}
