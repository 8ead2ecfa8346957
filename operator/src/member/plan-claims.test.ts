import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LabelSelector } from '../api/pod.ts';
import { labelSelectorMatches } from '../kube/label-selector.ts';
import { exampleCollective, exampleMember } from './example-member.ts';
import { examplePicture } from './example-picture.ts';
import type { TrustClaim } from './picture.ts';
import { planReferences } from './plan-claims.ts';

const own: TrustClaim = {
  namespace: 'team',
  name: 'alice',
  uid: 'a11ce',
  created: '2026-11-01T00:00:00Z',
  holds: false,
};
const other = { ...own, namespace: 'other', uid: 'b0b' };

function reasonOf(claims: readonly TrustClaim[]): string | undefined {
  return planReferences(examplePicture({ claims }))?.reason;
}

test('K1: the oldest Member has the trust domain, and the younger is told whose it is', () => {
  assert.equal(reasonOf([own]), undefined);
  assert.equal(reasonOf([own, { ...other, created: '2026-11-02T00:00:00Z' }]), undefined);
  assert.equal(reasonOf([{ ...other, created: '2026-10-01T00:00:00Z' }, own]), 'TrustDomainConflict');
  const claims = [own, { ...other, created: '2026-10-01T00:00:00Z' }];
  assert.match(
    planReferences(examplePicture({ claims }))?.message ?? '',
    /^The trust domain alice\.photos\.example is that of the Member other\/alice:/,
  );
});

test('K1: who has begun under a trust domain keeps it from an older Member whose Collective came later', () => {
  const older = { ...other, created: '2026-10-01T00:00:00Z' };
  assert.equal(reasonOf([older, { ...own, holds: true }]), undefined);
  assert.equal(
    reasonOf([
      { ...older, holds: true },
      { ...own, holds: true },
    ]),
    'TrustDomainConflict',
  );
});

test("an account of the Member's name that is somebody else's is not taken", () => {
  const foreign = new Set(['ServiceAccount/alice']);
  const told = planReferences(examplePicture({ foreign }));
  assert.equal(told?.reason, 'NameTaken');
  assert.match(told.message, /ServiceAccount alice of namespace team .*use another name for the Member/);
});

test('K1: of two of the same second every operator chooses the same', () => {
  assert.equal(reasonOf([own, other]), undefined);
  assert.equal(reasonOf([own, { ...other, uid: '0' }]), 'TrustDomainConflict');
});

test('a Collective that is not there, or does not select the Member, is named with what to do', () => {
  assert.equal(planReferences(examplePicture({ collective: undefined }))?.reason, 'CollectiveNotFound');
  const collective = exampleCollective();
  const selecting = { ...collective, spec: { ...collective.spec, memberSelector: { matchLabels: { team: 'one' } } } };
  assert.equal(planReferences(examplePicture({ collective: selecting }))?.reason, 'NotSelected');
  const member = exampleMember({}, { labels: { team: 'one' } });
  assert.equal(planReferences(examplePicture({ collective: selecting, member })), undefined);
});

test('a label selector means what it means in Kubernetes', () => {
  const labels = { team: 'one', tier: 'gold' };
  const matches = (selector: LabelSelector) => labelSelectorMatches(selector, labels);
  const expression = (key: string, operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist', values?: string[]) =>
    matches({ matchExpressions: [{ key, operator, ...(values === undefined ? {} : { values }) }] });
  assert.equal(matches({}), true);
  assert.equal(matches({ matchLabels: { team: 'one' } }), true);
  assert.equal(matches({ matchLabels: { team: 'one', tier: 'iron' } }), false);
  assert.equal(expression('team', 'In', ['one', 'two']), true);
  assert.equal(expression('absent', 'In', ['one']), false);
  assert.equal(expression('team', 'NotIn', ['one']), false);
  assert.equal(expression('absent', 'NotIn', ['one']), true);
  assert.equal(expression('tier', 'Exists'), true);
  assert.equal(expression('tier', 'DoesNotExist'), false);
  assert.equal(expression('absent', 'DoesNotExist'), true);
});
