/**
 * T6 under everything that may happen: Secrets and bundles are deleted or forged, rotations are asked for, peers are late or
 * away, the coordinator or cert-manager stands still, and the operator is stopped between any two writes. `ModelMember` judges
 * every moment; in the end every rotation has ended. A failure prints the seed and the path that repeat it.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { assert as always, array, asyncProperty, constant, integer, oneof, record } from 'fast-check';
import { ModelMember } from './model-member.ts';
import { publishedRoots } from './roots.ts';
import { fingerprintOf } from './secret-data.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const RUNS = Number(process.env.COLLECTIVE_ROTATION_RUNS ?? 10);

type Happening =
  | { readonly kind: 'passes'; readonly minutes: number }
  | { readonly kind: 'stops'; readonly afterWrites: number }
  | { readonly kind: 'loses-leaf' | 'leaves' | 'comes'; readonly at: number }
  | { readonly kind: 'asks'; readonly trigger: number }
  | { readonly kind: 'lasts'; readonly hours: number }
  | { readonly kind: 'loses-authority' | 'loses-bundle' | 'forges-bundle' | 'forges-authority' }
  | { readonly kind: 'coordinator' | 'cert-manager' | 'failing'; readonly works: number };

const happening = oneof(
  { arbitrary: record({ kind: constant('passes' as const), minutes: integer({ min: 1, max: 5_000 }) }), weight: 6 },
  { arbitrary: record({ kind: constant('stops' as const), afterWrites: integer({ min: 0, max: 12 }) }), weight: 4 },
  record({
    kind: oneof(...(['loses-leaf', 'leaves', 'comes'] as const).map(constant)),
    at: integer({ min: 0, max: 4 }),
  }),
  record({ kind: constant('asks' as const), trigger: integer({ min: 1, max: 9 }) }),
  record({ kind: constant('lasts' as const), hours: integer({ min: 4_000, max: 9_000 }) }),
  record({
    kind: oneof(...(['loses-authority', 'loses-bundle', 'forges-bundle', 'forges-authority'] as const).map(constant)),
  }),
  record({
    kind: oneof(...(['coordinator', 'cert-manager', 'failing'] as const).map(constant)),
    works: integer({ min: 0, max: 1 }),
  }),
);

test('T6: whatever happens and wherever the operator stops, no needed root is dropped, nobody connected is refused, and rotations end', async () => {
  const foreign = await ScratchAuthority.create(parseTrustDomain('alice.photos.test'));
  await always(
    asyncProperty(array(happening, { minLength: 1, maxLength: 25 }), async (happenings) => {
      const member = new ModelMember({ overlap: '30h', leafDuration: '720h', duration: '8760h' });
      await member.settle();
      for (const one of happenings) await happens(one, member, foreign);
      member.coordinatorAnswers = true;
      member.model.stopped = false;
      member.model.failing = false;
      await member.pass(500 * HOUR_MS);
      await member.settle();
      assert.equal(member.stored?.ca?.phase, 'Stable');
      assert.equal(member.lastPlan?.condition.status, 'True', member.lastPlan?.condition.message);
      const { generation, generations = [] } = member.authority;
      assert.deepEqual(
        [...member.model.secrets.keys()].filter((name) => name.includes('-ca-g')),
        [`alice-ca-g${generation}`],
      );
      const published = publishedRoots(member.model.configMaps.get('alice-trust'));
      assert.deepEqual(
        published.map(fingerprintOf),
        generations.map(({ fingerprint }) => fingerprint),
      );
      assert.equal(generations.length, 1);
    }),
    { numRuns: RUNS },
  );
});

async function happens(one: Happening, member: ModelMember, foreign: ScratchAuthority): Promise<void> {
  const { model, nowMs } = member;
  const newest = `alice-ca-g${member.authority.generation}`;
  switch (one.kind) {
    case 'passes':
      return await member.pass(one.minutes * MINUTE_MS);
    case 'stops':
      member.step(one.afterWrites);
      return await model.turn(nowMs);
    case 'loses-leaf': {
      const peer = member.peers[one.at];
      if (peer === undefined) return;
      model.secrets.delete(peer.wish.name);
      return;
    }
    case 'leaves':
    case 'comes': {
      const peer = member.peers[one.at];
      if (peer === undefined) return;
      if (one.kind === 'comes') member.connect(peer);
      else peer.connected = false;
      return;
    }
    case 'asks':
      member.trigger = `${one.trigger}`;
      return;
    case 'lasts':
      member.ca = { ...member.ca, duration: `${one.hours}h` };
      return;
    case 'loses-authority':
      model.secrets.delete(newest);
      return;
    case 'forges-authority':
      if (model.secrets.has(newest) && member.authority.phase !== 'Creating')
        model.putSecret(newest, { 'tls.crt': foreign.bundlePem, 'tls.key': foreign.keyPem }, nowMs);
      return;
    case 'loses-bundle':
      model.configMaps.delete('alice-trust');
      return;
    case 'forges-bundle': {
      const present = model.configMaps.get('alice-trust');
      if (present !== undefined)
        model.configMaps.set('alice-trust', { ...present, data: { 'trust.pem': foreign.bundlePem } });
      return;
    }
    case 'coordinator':
      member.coordinatorAnswers = one.works === 1;
      return;
    case 'cert-manager':
      model.stopped = one.works === 0;
      return;
    case 'failing':
      model.failing = one.works === 0;
  }
}
