import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { SystemClock } from '@collective/base/system-clock';
import { CoordinatorMessage, NodeMessage } from '../gen/node.ts';
import { linkContract } from './link-contract.ts';
import { memoryLinkPair } from './memory-link.ts';

linkContract('memory', async () => {
  const pair = memoryLinkPair<NodeMessage, CoordinatorMessage>({
    clock: new SystemClock(),
    copy: (from, message) =>
      from === 'left'
        ? NodeMessage.decode(NodeMessage.encode(message as NodeMessage).finish())
        : CoordinatorMessage.decode(CoordinatorMessage.encode(message as CoordinatorMessage).finish()),
  });
  return {
    opener: pair.left,
    accepter: pair.right,
    break: () => pair.cut(),
    [Symbol.asyncDispose]: async () => pair.cut(),
  };
});

const isUnavailable = (thrown: unknown): boolean => thrown instanceof CollectiveError && thrown.code === 'unavailable';

test('memory link: a message with a shorter way does not overtake one that was sent before', async () => {
  const clock = new FakeClock();
  const delays = [500, 10, 0];
  const { left, right } = memoryLinkPair<string, string>({ clock, onMessage: () => delays.shift() ?? 0 });
  for (const word of ['one', 'two', 'three']) left.send(word);
  const seen: string[] = [];
  const reading = (async () => {
    for (let word = await right.receive(); word !== undefined; word = await right.receive()) {
      seen.push(`${word} at ${clock.elapsedMs}`);
      if (seen.length === 3) return;
    }
  })();
  await clock.advance(499);
  assert.deepEqual(seen, []);
  await clock.advance(1);
  await reading;
  assert.deepEqual(seen, ['one at 500', 'two at 500', 'three at 500']);
});

test('memory link: a partition holds everything back, and its end delivers it', async () => {
  const clock = new FakeClock();
  const pair = memoryLinkPair<string, string>({ clock });
  pair.left.send('before');
  await clock.advance(1);
  pair.hold();
  pair.left.send('during');
  pair.right.send('other way');
  await clock.advance(60_000);
  assert.equal(await pair.right.receive(), 'before');
  pair.release();
  await clock.advance(1);
  assert.equal(await pair.right.receive(), 'during');
  assert.equal(await pair.left.receive(), 'other way');
});

test('memory link: one end may notice a break before the other, which then sends into the void', async () => {
  const clock = new FakeClock();
  const pair = memoryLinkPair<string, string>({ clock });
  pair.cut('left');
  await assert.rejects(pair.left.receive(), isUnavailable);
  pair.right.send('lost');
  await clock.advance(1);
  const waiting = pair.right.receive();
  pair.cut('right');
  await assert.rejects(waiting, isUnavailable);
});

test('memory link: a message that cuts the link is lost, what arrived before is not', async () => {
  const clock = new FakeClock();
  const pair = memoryLinkPair<string, string>({
    clock,
    onMessage: (_from, message) => (message === 'cut' ? 'cut' : 0),
  });
  pair.left.send('first');
  await clock.advance(1);
  pair.left.send('second');
  pair.left.send('cut');
  await clock.advance(1);
  assert.equal(await pair.right.receive(), 'first');
  await assert.rejects(pair.right.receive(), isUnavailable);
});
