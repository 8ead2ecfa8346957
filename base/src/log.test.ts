import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { CollectiveError } from './errors/index.ts';
import { createLog, type LogLevel, silentLog } from './log.ts';

function logged(act: (log: ReturnType<typeof createLog>) => void, level: LogLevel = 'info'): Record<string, unknown>[] {
  const lines: string[] = [];
  act(createLog({ program: 'node', level, destination: { write: (line: string) => lines.push(line) } }));
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('an event is one line of JSON with its level by name, its program and its fields', () => {
  const [line] = logged((log) => log.info({ disk: 'd1', freeBytes: 7 }, 'store opened'));
  assert.equal(line?.level, 'info');
  assert.equal(line?.event, 'store opened');
  assert.equal(line?.program, 'node');
  assert.equal(line?.disk, 'd1');
  assert.equal(line?.freeBytes, 7);
  assert.match(String(line?.time), /^\d{4}-\d\d-\d\dT/);
});

test('secrets are cut out by name, at the top and one object further in', () => {
  const text = JSON.stringify(
    logged((log) => {
      log.info({ token: 'col1-abc', peer: { privateKey: 'PEM', name: 'anna' } }, 'enrolled');
      log.child({ ticket: 'xyz' }).info({}, 'served');
    }),
  );
  assert.ok(!text.includes('col1-abc') && !text.includes('PEM') && !text.includes('xyz'), text);
  assert.ok(text.includes('anna'));
});

test('an error is written with its code and its chain of causes, and a stack only where it leads to a defect', () => {
  const cause = new Error('connect ECONNREFUSED');
  const [expected, defect] = logged((log) => {
    log.error({ err: new CollectiveError('unavailable', 'Reach node-1', { cause }) }, 'node lost');
    log.error({ err: new TypeError('x is not a function') }, 'failed');
  });
  const errors = [expected, defect].map((line) => line?.err as { chain: string[]; stack?: string });
  assert.deepEqual(errors[0]?.chain, ['Reach node-1 [unavailable]', 'connect ECONNREFUSED']);
  assert.equal(errors[0]?.stack, undefined);
  assert.match(errors[1]?.stack ?? '', /TypeError/);
});

test('lines below the level are not written, and a child keeps the fields of its parent', () => {
  const lines = logged((log) => {
    log.info({}, 'hidden');
    log.child({ session: 4 }).warn({}, 'shown');
  }, 'warn');
  assert.equal(lines.length, 1);
  assert.equal(lines[0]?.session, 4);
});

test('the silent log says nothing, its children neither', () => {
  assert.equal(silentLog.child({ a: 1 }), silentLog);
  assert.doesNotThrow(() => silentLog.error({}, 'nobody hears it'));
});

test('a program goes on when nobody can take its log: the disk behind stderr is full', async (t) => {
  if (!existsSync('/dev/full')) return t.skip('no /dev/full');
  const program = `
    import { createLog } from ${JSON.stringify(new URL('./log.ts', import.meta.url).href)};
    const log = createLog({ program: 'test' });
    for (let i = 0; i < 20_000; i++) log.info({ i, filling: 'x'.repeat(100) }, 'said');
    console.log('alive');`;
  const full = await open('/dev/full', 'w');
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
    stdio: ['ignore', 'pipe', full.fd],
  });
  let out = '';
  child.stdout?.on('data', (bytes: Buffer) => {
    out += bytes.toString();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  await full.close();
  assert.deepEqual([code, out], [0, 'alive\n']);
});
