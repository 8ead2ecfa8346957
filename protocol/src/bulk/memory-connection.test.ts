import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { connectionContract } from './connection-contract.ts';
import { encodeControlFrame } from './frame.ts';
import { memoryConnectionPair } from './memory-connection.ts';

connectionContract('memory', async () => {
  const clock = new FakeClock();
  const { connector, acceptor, cut } = memoryConnectionPair({ clock, connectorName: 'client', acceptorName: 'one' });
  return {
    left: connector,
    right: acceptor,
    until: (condition) => clock.until(condition, { withinMs: 10_000 }),
    [Symbol.asyncDispose]: async () => {
      cut();
      await clock.settle();
    },
  };
});

test('a network may deliver late, change bytes, or never deliver; a cut takes what is under way', async () => {
  const clock = new FakeClock();
  const under: (() => void)[] = [];
  const { connector, acceptor, cut } = memoryConnectionPair({
    clock,
    connectorName: 'client',
    acceptorName: 'one',
    network: {
      transmit: (direction, bytes, deliver) => {
        if (direction === 'to-connector') bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
        under.push(deliver);
      },
    },
  });
  const seen: string[] = [];
  acceptor.listen({
    frame: ({ stream }) => seen.push(`acceptor got ${stream}`),
    closed: (error) => seen.push(`acceptor closed ${error?.code}`),
  });
  connector.listen({
    frame: ({ stream }) => seen.push(`connector got ${stream}`),
    closed: (error) => seen.push(`connector closed ${error?.code}`),
  });
  connector.send([encodeControlFrame('PING', 1, Buffer.from('a'))]);
  connector.send([encodeControlFrame('PING', 2, Buffer.from('b'))]);
  await clock.settle();
  assert.deepEqual(seen, []);
  under.shift()?.();
  assert.deepEqual(seen, ['acceptor got 1']);
  cut();
  for (const deliver of under) deliver();
  await clock.settle();
  assert.deepEqual(seen, ['acceptor got 1', 'connector closed unavailable', 'acceptor closed unavailable']);
});

test('D5: a byte that the network changed is found', async () => {
  const clock = new FakeClock();
  const { connector, acceptor } = memoryConnectionPair({
    clock,
    connectorName: 'client',
    acceptorName: 'one',
    network: {
      transmit: (_direction, bytes, deliver) => {
        if (bytes.length > 0) bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
        clock.defer(deliver);
      },
    },
  });
  const ends: (string | undefined)[] = [];
  acceptor.listen({
    frame: () => assert.fail('a damaged frame came through'),
    closed: (error) => ends.push(error?.code),
  });
  connector.listen({ frame: () => assert.fail('nothing was sent'), closed: (error) => ends.push(error?.code) });
  connector.send([encodeControlFrame('PING', 1, Buffer.from('a'))]);
  await clock.until(() => ends.length === 2, { withinMs: 1000 });
  assert.deepEqual(ends.sort(), ['frame_invalid', 'unavailable']);
});
