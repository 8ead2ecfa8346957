import assert from 'node:assert/strict';
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
