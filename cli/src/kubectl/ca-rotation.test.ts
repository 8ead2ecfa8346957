import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRotated, rotatedText, rotationOrder, rotationStep } from './ca-rotation.ts';
import type { CaSeen, MemberObject } from './member-object.ts';

const ROTATE = 'collective.storage/rotate-ca';

function member(ca: CaSeen | undefined, more: Partial<MemberObject> & { annotation?: string } = {}): MemberObject {
  const { annotation, spec, status } = more;
  const annotations = annotation === undefined ? undefined : { [ROTATE]: annotation };
  const metadata = { name: 'alice', annotations };
  return { apiVersion: 'collective.storage/v1alpha1', kind: 'Member', metadata, spec, status: { ca, ...status } };
}

test('T6: an order is a new value of the annotation, when no rotation goes on and the last order was handled', () => {
  const stable = { generation: 3, phase: 'Stable', handledTrigger: 'one' };
  assert.deepEqual(rotationOrder(member(stable, { annotation: 'one' }), 'two'), { [ROTATE]: 'two' });
  assert.deepEqual(rotationOrder(member({ generation: 1, phase: 'Stable' }), 'two'), { [ROTATE]: 'two' });
});

const refused: { name: string; given: MemberObject; want: object }[] = [
  { name: 'no authority yet', given: member(undefined), want: { code: 'busy', message: /it has none yet/ } },
  {
    name: 'a rotation goes on',
    given: member({ generation: 3, phase: 'Reissuing' }),
    want: { code: 'busy', message: /generation 3 is under way already \(Reissuing\)/ },
  },
  {
    name: 'an order waits',
    given: member({ generation: 3, phase: 'Stable', handledTrigger: 'one' }, { annotation: 'two' }),
    want: { code: 'busy', message: /an earlier order \(two\)/ },
  },
  {
    name: 'an order waits because the member is paused',
    given: member({ generation: 3 }, { annotation: 'two', spec: { maintenance: { paused: true } } }),
    want: { code: 'busy', todo: /paused/ },
  },
  {
    name: 'a member elsewhere',
    given: member({ generation: 3 }, { spec: { external: { endpoint: 'x:1' } } }),
    want: { code: 'unsupported' },
  },
];
for (const { name, given, want } of refused) {
  test(`T6: a rotation cannot be ordered: ${name}`, () => {
    assert.throws(() => rotationOrder(given, 'three'), want);
  });
}

test('T6: the steps are told in order, with what is left and what holds it up; authorities are not counted as certificates', () => {
  const at = (ca: CaSeen, status: object = {}) => member(ca, { status });
  assert.equal(
    rotationStep(at({ generation: 1, phase: 'Stable', handledTrigger: 'old' }), 'new'),
    'Waiting for the operator',
  );
  const certificates = [
    { name: 'a', generation: 2 },
    { name: 'b', generation: 1 },
    { name: 'alice-ca-g2', generation: 2 },
    { name: 'alice-ca-g1', generation: 1 },
  ];
  assert.equal(
    rotationStep(at({ generation: 2, phase: 'Reissuing', handledTrigger: 'new' }, { certificates }), 'new'),
    'Generation 2, Reissuing: certificates are issued anew, 1 certificate left',
  );
  const conditions = [{ type: 'CertificatesReady', status: 'False', message: 'rack-0 trusts the old bundle' }];
  assert.match(rotationStep(at({ generation: 2, phase: 'Distributing' }, { conditions }), 'new'), /\(rack-0 trusts/);
});

test('T6: an order is done when all certificates are new, and it is said until when the old root is trusted', () => {
  const at = (phase: string, handledTrigger = 'new') =>
    member({ generation: 2, phase, handledTrigger, oldRootsUntil: '2026-12-03T12:00:00Z' });
  assert.deepEqual(
    ['Creating', 'Distributing', 'Reissuing', 'Retiring', 'Stable'].map((phase) => isRotated(at(phase), 'new')),
    [false, false, false, true, true],
  );
  assert.equal(isRotated(at('Stable', 'old'), 'new'), false);
  assert.match(
    rotatedText(at('Retiring')),
    /^All .* generation 2\. .* until 2026-12-03T12:00:00Z for those who are away/,
  );
  assert.match(rotatedText(at('Stable')), /generation 2, which alone is trusted\.$/);
});
