import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { AuditTail } from './audit-tail.ts';

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'audit-tail-'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

const line = (verb: string): string => `${JSON.stringify({ verb })}\n`;

function logOf(name: string, ...verbs: string[]): { file: string; tail: AuditTail; read: () => string[] } {
  const file = join(folder, name);
  writeFileSync(file, verbs.map(line).join(''));
  const tail = new AuditTail(file);
  return { file, tail, read: () => tail.next().map(({ verb }) => verb) };
}

test('what was written since is read once, and a line when it is whole', () => {
  const { file, read } = logOf('grows', 'get', 'list');
  assert.deepEqual(read(), ['get', 'list']);
  appendFileSync(file, line('patch').slice(0, 5));
  assert.deepEqual(read(), []);
  appendFileSync(file, line('patch').slice(5));
  assert.deepEqual(read(), ['patch']);
});

test('a log that has begun anew is an error, also when it is as long as it was before', () => {
  const shrunk = logOf('shrunk', 'get', 'list');
  shrunk.read();
  truncateSync(shrunk.file, line('get').length);
  assert.throws(() => shrunk.tail.next(), /shrunk has begun anew/);

  const rotated = logOf('rotated', 'get');
  rotated.read();
  renameSync(rotated.file, `${rotated.file}-former`);
  writeFileSync(rotated.file, line('get') + line('list'));
  assert.throws(() => rotated.tail.next(), /rotated has begun anew/);
});
