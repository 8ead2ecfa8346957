import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { until } from '../until.ts';
import { memberReference, PluginWorld } from './plugin-world.ts';

const ROTATE = 'collective.storage/rotate-ca';
const DRAIN = 'collective.storage/drain-nodes';
const SOON_MS = 30_000;

const running = new AsyncDisposableStack();
let world: PluginWorld;
before(async () => {
  world = running.use(await PluginWorld.start());
});
after(() => running.disposeAsync());

const nodes = (states: Record<string, string>): object[] =>
  Object.entries(states).map(([name, state]) => ({ name, pool: 'rack', state }));

async function annotation(name: string, key: string): Promise<string | undefined> {
  return (await world.seen(name)).metadata.annotations?.[key];
}

test('T6: rotate-ca --wait orders by the annotation, tells each step once, and ends when all certificates are new', async () => {
  await world.member('alice', {}, { ca: { generation: 1, phase: 'Stable' } });
  const rotating = world.run(['rotate-ca', 'alice', '--wait', '--timeout', '1m']);
  await until(async () => (await annotation('alice', ROTATE)) !== undefined, 'the order is there', SOON_MS);
  const handledTrigger = await annotation('alice', ROTATE);
  const again = await world.run(['rotate-ca', 'alice']);
  assert.deepEqual([again.exit, /has not been begun yet/.test(again.err)], [1, true]);
  await world.memberStatus('alice', { ca: { generation: 2, phase: 'Distributing', handledTrigger } });
  const busy = await world.run(['rotate-ca', 'alice']);
  assert.match(busy.err, /generation 2 is under way already \(Distributing\)/);
  const generations = [
    { generation: 2, fingerprint: 'bb', notAfter: '2036-11-20T12:00:00Z', created: '2026-11-20T12:00:00Z' },
    { generation: 1, fingerprint: 'aa', notAfter: '2036-10-20T12:00:00Z', created: '2026-10-20T12:00:00Z' },
  ];
  // Authorities stand among the certificates, too.
  const certificates = generations.map(({ generation, notAfter }) => ({
    name: `alice-ca-g${generation}`,
    generation,
    notAfter,
  }));
  const oldRootsUntil = '2026-12-03T12:00:00Z';
  const ca = { generation: 2, phase: 'Retiring', oldRootsUntil, handledTrigger, generations };
  await world.memberStatus('alice', { ca, certificates });
  const { exit, out, err } = await rotating;
  assert.equal(exit, 0, err);
  assert.match(err, /^Generation 2 of the authority of alice is ordered\.\n/);
  assert.match(
    err,
    /\nAll certificates of alice are of generation 2\. .* until 2026-12-03T12:00:00Z for those who are away/,
  );
  assert.match(out, /alice +alice-ca-g2 +authority +2 /);
  assert.equal(out.match(/alice-ca-g1 /g)?.length, 1, out);
});

test('a wait that comes to its deadline says what was last seen, and that it goes on', async () => {
  await world.member('dora', {}, { ca: { generation: 1, phase: 'Stable' } });
  const { exit, err } = await world.run(['rotate-ca', 'dora', '--wait', '--timeout', '1ms']);
  assert.equal(exit, 5);
  assert.match(err, /not done within 1ms; last seen: Waiting for the operator .*\n {2}It goes on by itself/);
});

test('K2: drain adds to the list, --undo takes away, and other annotations and managers are left alone', async () => {
  const states = { 'rack-0': 'Ready', 'rack-1': 'Ready', 'rack-2': 'Ready' };
  await world.member('bob', {}, { nodes: nodes(states) }, { annotations: { owner: 'anna' } });
  await world.ok(['drain', 'bob', 'rack-1']);
  const both = await world.ok(['drain', 'bob', 'rack-2', 'rack-1', '-o', 'name']);
  assert.equal(both, 'rack-1\nrack-2\n');
  assert.equal(await annotation('bob', DRAIN), 'rack-1,rack-2');
  assert.match((await world.run(['drain', 'bob', 'rack-2'])).err, /was to be drained already/);
  await world.ok(['drain', 'bob', 'rack-1', '--undo']);
  assert.equal(await annotation('bob', DRAIN), 'rack-2');
  await world.ok(['drain', 'bob', 'rack-2', '--undo']);
  assert.deepEqual((await world.seen('bob')).metadata.annotations, { owner: 'anna' });
  const unknown = await world.run(['drain', 'bob', 'bob-rack-1-0']);
  assert.deepEqual([unknown.exit, /The node is called rack-1\./.test(unknown.err)], [3, true]);
});

test('K2: drain --wait tells what is left and ends when the node is gone', async () => {
  await world.member('carol', {}, { nodes: nodes({ 'rack-0': 'Ready', 'rack-1': 'Ready' }) });
  const draining = world.run(['drain', 'carol', 'rack-1', '--wait', '--timeout', '1m']);
  await until(async () => (await annotation('carol', DRAIN)) === 'rack-1', 'the order is there', SOON_MS);
  await world.memberStatus('carol', { nodes: nodes({ 'rack-0': 'Ready' }) });
  const { exit, err } = await draining;
  assert.equal(exit, 0, err);
  assert.match(err, /^rack-1 of carol: to be drained\.\n(?:rack-1 Ready\n)?Gone: rack-1\.\n$/);
});

test('two people who order at the same moment lose nothing', async () => {
  const states = Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`rack-${i}`, 'Ready']));
  await world.member('eve', {}, { nodes: nodes(states) });
  await Promise.all([0, 1, 2, 3].map((i) => world.ok(['drain', 'eve', `rack-${i}`])));
  assert.deepEqual((await annotation('eve', DRAIN))?.split(',').sort(), ['rack-0', 'rack-1', 'rack-2', 'rack-3']);
});

test('a Member that is being deleted takes no orders', async () => {
  await world.member(
    'frank',
    {},
    { nodes: nodes({ 'rack-0': 'Ready' }) },
    { finalizers: ['collective.storage/member'] },
  );
  await world.server.admin.remove(memberReference('frank'));
  const { exit, err } = await world.run(['drain', 'frank', 'rack-0']);
  assert.deepEqual([exit, /it is being deleted/.test(err)], [1, true]);
  await world.server.admin.patch(memberReference('frank'), { metadata: { finalizers: null } });
});
