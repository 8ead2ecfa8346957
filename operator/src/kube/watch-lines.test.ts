import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WatchEvent } from './kube-api.ts';
import { KubeError } from './kube-error.ts';
import { WATCH_LINE_BYTES_MAX, WatchLines } from './watch-lines.ts';

const object = (name: string, resourceVersion: string) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, resourceVersion },
});
const line = (type: string, of: object): string => `${JSON.stringify({ type, object: of })}\n`;
const expired = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version: 5 (9)' };

const takeAll = (pieces: readonly Buffer[]): WatchEvent[] => {
  const lines = new WatchLines('Watch configmaps');
  return pieces.flatMap((piece) => [...lines.take(piece)]);
};

test('events come whole wherever the bytes are cut, also within a letter', () => {
  const bytes = Buffer.from(
    line('ADDED', object('über', '7')) +
      line('BOOKMARK', { metadata: { resourceVersion: '9' } }) +
      line('DELETED', object('b', '11')),
  );
  const want: WatchEvent[] = [
    { type: 'ADDED', object: object('über', '7') },
    { type: 'BOOKMARK', resourceVersion: '9' },
    { type: 'DELETED', object: object('b', '11') },
  ];
  for (let at = 0; at <= bytes.length; at++) {
    assert.deepEqual(takeAll([bytes.subarray(0, at), bytes.subarray(at)]), want, `cut at ${at}`);
  }
  assert.deepEqual(takeAll([...bytes].map((byte) => Buffer.from([byte]))), want);
});

test('an ERROR event is thrown with the status of the server, after the events before it', () => {
  const lines = new WatchLines('Watch configmaps');
  const seen: WatchEvent[] = [];
  assert.throws(
    () => {
      for (const event of lines.take(Buffer.from(line('ADDED', object('a', '5')) + line('ERROR', expired))))
        seen.push(event);
    },
    (thrown: KubeError) => {
      assert.ok(thrown instanceof KubeError);
      assert.ok(thrown.isGone);
      assert.equal(thrown.message, 'Watch configmaps: 410 Expired: too old resource version: 5 (9)');
      return true;
    },
  );
  assert.equal(seen.length, 1);
});

for (const [name, text] of [
  ['what is not JSON', '<html>\n'],
  ['an event without an object', '{"type":"ADDED"}\n'],
  ['an object without a version', '{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n'],
  ['an event of an unknown type', line('RENAMED', object('a', '1'))],
] as const) {
  test(`${name} ends the watch`, () => {
    assert.throws(() => takeAll([Buffer.from(text)]), { reason: 'UnreadableAnswer', status: 0 });
  });
}

test('a line without an end is given up before it fills the memory', () => {
  const lines = new WatchLines('Watch configmaps');
  const piece = Buffer.alloc(1024 * 1024, 'x');
  assert.throws(
    () => {
      for (let taken = 0; taken <= WATCH_LINE_BYTES_MAX; taken += piece.length)
        assert.equal([...lines.take(piece)].length, 0);
    },
    { reason: 'UnreadableAnswer' },
  );
});
