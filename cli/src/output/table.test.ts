import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { parse as parseYaml } from 'yaml';
import { testShell } from '../shell-for-tests.ts';
import type { Format } from './format.ts';
import { parseFormat } from './format.ts';
import { printable } from './printable.ts';
import { printOne, printRows, type RowsView } from './table.ts';

interface Row {
  readonly name: string;
  readonly size: number;
}

const VIEW: RowsView<Row> = {
  columns: [
    { header: 'NAME', cell: ({ name }) => name },
    { header: 'SIZE', cell: ({ size }) => String(size), align: 'right' },
    { header: 'MORE', cell: () => 'x', wide: true },
  ],
  name: ({ name }) => name,
};
const ROWS: Row[] = [
  { name: 'a', size: 5 },
  { name: 'long-name', size: 12_000 },
];

async function printed(format: Format, rows: Iterable<Row> | AsyncIterable<Row> = ROWS): Promise<string> {
  const shell = testShell();
  await printRows(shell, format, rows, VIEW);
  return shell.out();
}

test('a table has aligned columns and no trailing blanks', async () => {
  assert.equal(await printed('table'), 'NAME         SIZE\na               5\nlong-name   12000\n');
  assert.equal(await printed('wide'), 'NAME         SIZE   MORE\na               5   x\nlong-name   12000   x\n');
});

test('JSON and YAML of many rows are one list that parses, also when empty', async () => {
  assert.deepEqual(JSON.parse(await printed('json')), ROWS);
  assert.deepEqual(parseYaml(await printed('yaml')), ROWS);
  assert.deepEqual(JSON.parse(await printed('json', [])), []);
  assert.deepEqual(parseYaml(await printed('yaml', [])), []);
  assert.equal(await printed('name'), 'a\nlong-name\n');
});

test('rows are printed as they come: a million do not gather in memory', async () => {
  let produced = 0;
  let printedAt1000 = 0;
  const shell = testShell();
  const rows = (async function* () {
    for (; produced < 3_000; produced++) {
      // A page has come over the line.
      if (produced % 500 === 0) await new Promise<void>((resolve) => shell.clock.defer(resolve));
      if (produced === 1_000) printedAt1000 = shell.out().split('\n').length;
      yield { name: `n${produced}`, size: produced };
    }
  })();
  await printRows(shell, 'table', rows, VIEW);
  assert.ok(printedAt1000 >= 500, `${printedAt1000} lines were out when row 1000 was made`);
  assert.equal(shell.out().split('\n').length, 3_002);
});

test('rows that come one by one are shown soon, and nothing is shown of what fails at once', async () => {
  const shell = testShell();
  let shown = '';
  const rows = (async function* () {
    yield ROWS[0] as Row;
    const startedMs = shell.clock.bootMs();
    while (shell.out() === '' && shell.clock.bootMs() - startedMs < 10_000) await sleep(shell.clock, 10);
    shown = shell.out();
    yield ROWS[1] as Row;
  })();
  await printRows(shell, 'table', rows, VIEW);
  assert.equal(shown, 'NAME   SIZE\na         5\n');
  const failing = testShell();
  const none = (async function* (): AsyncGenerator<Row> {
    yield* [];
    throw new Error('not there');
  })();
  await assert.rejects(printRows(failing, 'table', none, VIEW), /not there/);
  assert.equal(failing.out(), '');
});

test('what came before a failure is printed', async () => {
  const shell = testShell();
  const rows = (async function* () {
    yield ROWS[0] as Row;
    throw new Error('the line broke');
  })();
  await assert.rejects(printRows(shell, 'name', rows, VIEW), /the line broke/);
  assert.equal(shell.out(), 'a\n');
});

test('a name cannot command a terminal, and is itself in a pipe', async () => {
  const row = { name: 'a\u001b[2Jb', size: 1 };
  for (const [isTTY, shown] of [
    [true, 'a\\u001b[2Jb\n'],
    [false, 'a\u001b[2Jb\n'],
  ] as const) {
    const shell = testShell({ isTTY });
    await printRows(shell, 'name', [row], VIEW);
    assert.equal(shell.out(), shown);
  }
});

test('wide characters count as two cells', async () => {
  assert.equal(
    await printed('table', [
      { name: '写真', size: 1 },
      { name: 'abc', size: 2 },
    ]),
    'NAME   SIZE\n写真      1\nabc       2\n',
  );
});

test('control characters and bidi marks of a name are shown, not obeyed', () => {
  assert.equal(printable('a\u001b[31m\nb\u202ec'), 'a\\u001b[31m\\nb\\u202ec');
});

test('one thing is lines of key and value, or an object', async () => {
  const shell = testShell();
  await printOne(shell, 'table', ROWS[0] as Row, VIEW);
  assert.equal(shell.out(), 'Name: a\nSize: 5\n');
  const json = testShell();
  await printOne(json, 'json', ROWS[0] as Row, VIEW);
  assert.deepEqual(JSON.parse(json.out()), ROWS[0]);
});

test('an unknown format names those that exist', () => {
  assert.throws(() => parseFormat('xml'), { code: 'invalid_argument', message: /table, wide, json, yaml, name/ });
});
