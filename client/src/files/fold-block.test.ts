import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { SeededRandom } from '@collective/base/random';
import { type Attributes, InodeType, type Operation, type Reply, type Slice } from '@collective/protocol/gen/session';
import type { Admin } from '../api.ts';
import { ConnectedMember } from '../member.ts';
import { attachedBy, ScriptedCoordinator } from '../session/scripted-coordinator.ts';
import { accessToken, ScriptedNodes } from '../transfer/scripted-nodes.ts';

const INODE = 5;
const CROWDED = 70;

/** Zeros, so that no node is asked for them. */
const holes = (count: number): Slice[] =>
  Array.from({ length: count }, (_unused, i) => ({
    offset: i * 10,
    length: 10,
    chunk: Buffer.alloc(0),
    chunkOffset: 0,
  }));

test('D1: a block that is cut away while its writer folds it is looked at again, and nothing is put in its place', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const nodes = new ScriptedNodes(clock, ['a']);
  const file = { inode: INODE, realm: 1, type: InodeType.FILE, mode: 0o644, links: 1 } as Attributes;
  /** What is found at each look; the last stays. */
  const looks = [
    { slices: holes(CROWDED), size: 10 * CROWDED },
    { slices: [], size: 0 },
  ];
  let looked = 0;
  const commits: Slice[][] = [];
  const answer = ({ op }: Operation): Reply['result'] => {
    switch (op?.$case) {
      case 'resolve':
        return { $case: 'resolved', value: { found: [file], linkTarget: Buffer.alloc(0), failure: undefined } };
      case 'getAttributes':
        return { $case: 'attributes', value: file };
      case 'replenish': {
        const access = accessToken(clock, 1, 1, 1_000);
        const { bytes, chunks } = op.value;
        const epoch = { generation: 1000, start: 1 };
        const placements = [{ nodes: ['a'] }];
        const value = { bytes, epoch, firstChunk: 1, chunks, placements, access, wanted: 1, needed: 1 };
        return { $case: 'replenished', value: { ...value, nodes: nodes.routes() } };
      }
      case 'readBlocks': {
        const { slices, size } = looks[Math.min(looked++, looks.length - 1)] ?? { slices: [], size: 0 };
        const blocks = slices.length === 0 ? [] : [{ index: 0, version: 1, slices }];
        return { $case: 'blocks', value: { blocks, chunks: [], attributes: { ...file, size }, next: 1 } };
      }
      case 'commitSlices': {
        commits.push(op.value.slices);
        if (commits.length > 1) return { $case: 'committed', value: { attributes: file, blocks: [], offset: 0 } };
        return { $case: 'failure', value: { code: 'overloaded', message: 'Crowded', details: { block: '0' } } };
      }
      default:
        return { $case: 'empty', value: {} };
    }
  };
  coordinator.answer = (operation) => ({ result: answer(operation) });
  coordinator.attached = attachedBy(1, { nodes: nodes.routes(), access: accessToken(clock, 1, 1, 1_000) });
  const { connector } = coordinator;
  const ports = { clock, random: new SeededRandom(1), connector, bulk: nodes, admin: {} as Admin };
  const member = await clock.finish(
    ConnectedMember.open(ports, { program: 'test', listener: 'internal', caches: false }),
  );
  const handle = await clock.finish(member.files.open('/f', { access: 'write' }));
  await clock.finish(handle.write(3, Buffer.from('abc')));
  assert.deepEqual(
    commits.map((slices) => slices.map(({ offset, length }) => [offset, length])),
    [[[3, 3]], [[3, 3]]],
  );
  assert.equal(looked, 3, 'as crowded, as cut, and once more');
  await clock.finish(member.close());
});
