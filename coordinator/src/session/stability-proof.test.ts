import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkId, InodeNumber } from '@collective/base/ids';
import type { StoreState } from '../ops/replica-stability.ts';
import { REPLAYED, STABLE_PASSES_MAX, StabilityProof } from './stability-proof.ts';

const CHUNK = '00000007000000010000000000000001' as ChunkId;
const OTHER = '00000007000000010000000000000002' as ChunkId;
const REPLICA = { node: 'n1', disk: 'd1', incarnation: 3, sequence: 10 };
const NONE: ReadonlySet<ChunkId> = new Set();

for (const { name, store, covered } of [
  { name: 'its store has synced so far', store: { disk: 'd1', incarnation: 3, stableSequence: 10 }, covered: true },
  { name: 'its store has not come so far', store: { disk: 'd1', incarnation: 3, stableSequence: 9 }, covered: false },
  {
    name: 'it was put to another start of the store',
    store: { disk: 'd1', incarnation: 4, stableSequence: 99 },
    covered: false,
  },
  {
    name: 'it was put to another disk of that node',
    store: { disk: 'd2', incarnation: 3, stableSequence: 99 },
    covered: false,
  },
] satisfies { name: string; store: StoreState; covered: boolean }[]) {
  test(`D3: a replica is ${covered ? '' : 'not '}known to be stable when ${name}, as reported or as answered`, () => {
    const reported = new StabilityProof((node) => (node === 'n1' ? store : undefined));
    assert.equal(reported.covers(CHUNK, REPLICA), covered);
    assert.equal(reported.covers(CHUNK, { ...REPLICA, node: 'n2' }), false);
    const answered = new StabilityProof(() => undefined);
    answered.answered('n1', { store, held: NONE }, []);
    assert.equal(answered.covers(CHUNK, REPLICA), covered);
    assert.equal(answered.covers(CHUNK, { ...REPLICA, node: 'n2' }), false);
  });
}

test('D3: a chunk that a restarted node has is stable there, and one that it lacks is lost there', () => {
  const proof = new StabilityProof(() => undefined);
  const store = { disk: 'd1', incarnation: 4, stableSequence: 0 };
  proof.answered('n1', { store, held: new Set([CHUNK]) }, [CHUNK, OTHER]);
  assert.equal(proof.covers(CHUNK, REPLICA), true);
  assert.equal(proof.covers(OTHER, REPLICA), false);
  assert.equal(proof.isLost(CHUNK, REPLICA), false);
  assert.equal(proof.isLost(OTHER, REPLICA), true);
  // That disk was not asked: it may come back.
  assert.equal(proof.isLost(OTHER, { ...REPLICA, disk: 'd2' }), false);
});

test('D3, D8: a chunk is firm on as many nodes as its realm needs, whoever says so', () => {
  const proof = new StabilityProof(() => undefined);
  const replicas = [
    { ...REPLICA, stable: false },
    { ...REPLICA, node: 'n2', disk: 'd2', stable: false },
    { ...REPLICA, node: 'n3', disk: 'd3', stable: true },
  ];
  assert.equal(proof.isFirm({ chunk: CHUNK, needed: 1, replicas }), true);
  assert.equal(proof.isFirm({ chunk: CHUNK, needed: 2, replicas }), false);
  proof.answered('n2', { store: { disk: 'd2', incarnation: 3, stableSequence: 10 }, held: NONE }, []);
  assert.equal(proof.isFirm({ chunk: CHUNK, needed: 2, replicas }), true);
  assert.equal(proof.isFirm({ chunk: CHUNK, needed: 3, replicas }), false);
});

test('an operation waits for a file a bounded number of times, for each by itself; what is replayed never', () => {
  const proof = new StabilityProof(() => undefined);
  const [file, other] = [5 as InodeNumber, 6 as InodeNumber];
  for (let pass = 0; pass < STABLE_PASSES_MAX; pass++) {
    assert.equal(proof.mayWait(file), true);
    proof.passed(file);
  }
  assert.equal(proof.mayWait(file), false);
  assert.equal(proof.mayWait(other), true);
  assert.equal(REPLAYED.mayWait(file), false);
});
