import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { chunkIdOf } from '@collective/base/ids';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import type { PutRequest } from '@collective/protocol/bulk/exchange';
import type { ReplicaOutcome } from '@collective/protocol/gen/common';
import { ArrivingFrames } from './arriving-frames.ts';
import { FakeMember } from './fake-node.ts';
import { Forwarder } from './forwarder.ts';
import { PeerConnections } from './peer-connections.ts';
import { SCRATCH_EPOCH, ScratchCoordinator } from './scratch-node.ts';

const never = new AbortController().signal;
const LENGTH = 100_000;
const encoded = encodeChunk([Buffer.alloc(LENGTH, 3)], { compress: false });
let nextChunk = 0;

/** Node two of a member, and a forwarder as node one has it. */
async function forwarderTo(two: 'there' | 'away'): Promise<{
  clock: FakeClock;
  member: FakeMember;
  peers: PeerConnections;
  dials: () => number;
  put: (source: ArrivingFrames) => Promise<ReplicaOutcome>;
}> {
  const clock = new FakeClock({ startSeconds: 1_800_000_000 });
  const member = new FakeMember(clock, new ScratchCoordinator());
  if (two === 'there') await member.addNode('two');
  let dials = 0;
  const peer = { uri: 'spiffe://alice.home/node/one', role: 'node', name: 'one' };
  const connector = {
    connect: async ({ name }: { name: string }) => {
      dials++;
      return member.dial(name, peer);
    },
  };
  const peers = new PeerConnections({ connector, clock, program: 'one', connectionsPerNodeMax: 8 });
  const forwarder = new Forwarder(peers);
  peers.setRoutes([{ name: 'two', host: 'two', port: 1 }]);
  const put = (source: ArrivingFrames): Promise<ReplicaOutcome> => {
    const request: PutRequest = {
      token: member.coordinator.token('spiffe://alice.home/user/ann'),
      chunk: chunkIdOf(SCRATCH_EPOCH, ++nextChunk),
      length: LENGTH,
      inode: 1,
      block: 0,
      forwardTo: ['three'],
      stable: false,
    };
    return forwarder.put('two', request, source, never);
  };
  return { clock, member, peers, dials: () => dials, put };
}

function whole(): ArrivingFrames {
  const source = new ArrivingFrames();
  for (const frames of encoded.frames) source.push(frames);
  source.end(encoded.digest);
  return source;
}

describe('forwarder', () => {
  test('uses a connection again, and asks for no second forward', async () => {
    const { clock, put, dials } = await forwarderTo('there');
    for (let i = 0; i < 5; i++) assert.equal((await clock.finish(put(whole()))).failure, undefined);
    assert.equal(dials(), 1);
  });

  test('chunks that are still arriving have a connection each, up to eight; others share', async () => {
    const { clock, put, dials } = await forwarderTo('there');
    const sources = Array.from({ length: 8 }, () => new ArrivingFrames());
    const outcomes = sources.map((source) => put(source));
    await clock.settle();
    assert.equal(dials(), 8);
    const ninth = put(whole());
    await clock.settle();
    assert.equal(dials(), 8);
    for (const source of sources) {
      for (const frames of encoded.frames) source.push(frames);
      source.end(encoded.digest);
    }
    for (const { failure } of await clock.finish(Promise.all([...outcomes, ninth]))) assert.equal(failure, undefined);
  });

  test('a node that could not be reached is left alone for a second, and each chunk is told at once', async () => {
    const { clock, put, dials, member } = await forwarderTo('away');
    for (let i = 0; i < 5; i++) assert.equal((await clock.finish(put(whole()))).failure?.code, 'unavailable');
    assert.equal(dials(), 1);
    await member.addNode('two');
    await clock.advance(1_001);
    assert.equal((await clock.finish(put(whole()))).failure, undefined);
    assert.equal(dials(), 2);
  });

  test('a node without a route is an outcome that says so', async () => {
    const { clock, put, peers } = await forwarderTo('there');
    peers.setRoutes([]);
    const { node, failure } = await clock.finish(put(whole()));
    assert.deepEqual([node, failure?.code], ['two', 'unavailable']);
    assert.match(failure?.message ?? '', /has not told where it is/);
  });

  test('a source that fails, a caller that gives up and an end of the connections are outcomes, too', async () => {
    const { clock, put, peers } = await forwarderTo('there');
    const broken = new ArrivingFrames();
    const first = put(broken);
    await clock.settle();
    broken.fail(new CollectiveError('interrupted', 'The client is gone'));
    assert.equal((await clock.finish(first)).failure?.code, 'interrupted');
    const waiting = put(new ArrivingFrames());
    await clock.settle();
    await clock.finish(peers[Symbol.asyncDispose]());
    assert.equal((await clock.finish(waiting)).failure?.code, 'unavailable');
    assert.equal((await clock.finish(put(whole()))).failure?.code, 'shutting_down');
  });
});
