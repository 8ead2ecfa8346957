import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pickOne, randomBelow, SeededRandom } from '@collective/base/random';
import type { ReplicaPlace } from '../tables/gen/tables.ts';
import type { NodePicture, PicturedNode } from './node-picture.ts';
import {
  type DropAction,
  isLastOfGarbage,
  mayDrop,
  planClearance,
  planRepair,
  type RepairAction,
} from './plan-repair.ts';

const GiB = 1024 ** 3;

function node(name: string, more: Partial<PicturedNode> = {}): PicturedNode {
  return {
    name,
    disk: `disk-${name}`,
    incarnation: 1,
    heard: 'ready',
    duty: 'active',
    zone: '',
    capacityBytes: 10 * GiB,
    usedBytes: GiB,
    freeBytes: 9 * GiB,
    awayForMs: 0,
    lost: false,
    ...more,
  };
}

const away = { heard: 'away', awayForMs: 20_000 } as const;
const lost = { heard: 'away', awayForMs: 700_000, lost: true } as const;
const draining = { duty: 'draining' } as const;

function place(name: string, more: Partial<ReplicaPlace> = {}): ReplicaPlace {
  return { node: name, disk: `disk-${name}`, stable: true, incarnation: 1, sequence: 1, damaged: false, ...more };
}

const pictureOf = (nodes: readonly PicturedNode[]): NodePicture => new Map(nodes.map((each) => [each.name, each]));

/** As "copy a,b > c", "mend a > b", "drop c, after a,b" and "give up c, after a,b". */
function told(action: RepairAction): string {
  if (action.kind === 'copy')
    return `${action.replaces ? 'mend' : 'copy'} ${[...action.sources].sort()} > ${action.to.node}`;
  const after = action.reread.map((each) => each.node).sort();
  return `${action.forgets ? 'drop' : 'give up'} ${action.place.node}, ${after.length > 0 ? `after ${after}` : 'at once'}`;
}

interface Case {
  readonly name: string;
  readonly replicas: ReplicaPlace[];
  readonly nodes: PicturedNode[];
  /** Default: 2. */
  readonly wanted?: number;
  readonly want: readonly string[];
  readonly blocked?: string;
  readonly sound?: number;
}

const cases: Case[] = [
  {
    name: 'does nothing for a chunk that has its replicas',
    replicas: [place('a'), place('b')],
    nodes: [node('a'), node('b'), node('c')],
    want: [],
    sound: 2,
  },
  {
    name: 'waits for a node that is away and not given up',
    replicas: [place('a'), place('b')],
    nodes: [node('a'), node('b', away), node('c')],
    want: [],
    sound: 2,
  },
  {
    name: 'makes a new copy for a node that was given up, and keeps its place, for it may come back',
    replicas: [place('a'), place('b')],
    nodes: [node('a'), node('b', lost), node('c')],
    want: ['copy a > c'],
    sound: 1,
  },
  {
    name: 'does nothing more when the copy for a node that was given up is made',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a'), node('b', lost), node('c')],
    want: [],
  },
  {
    name: 'drops one of three when the node that was given up is back, after the two others were read again',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a'), node('b', { usedBytes: 5 * GiB }), node('c')],
    want: ['drop b, after a,c'],
    sound: 3,
  },
  {
    name: 'drops no third replica while one of the three is away, and says that it is not done',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a'), node('b', away), node('c')],
    want: [],
    blocked: 'node-away',
  },
  {
    name: 'keeps replicas in different zones when one goes',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [
      node('a', { zone: 'attic', usedBytes: 2 * GiB }),
      node('b', { zone: 'attic' }),
      node('c', { zone: 'cellar', usedBytes: 9 * GiB }),
    ],
    want: ['drop a, after b,c'],
  },
  {
    name: 'relieves a cordoned node first when one goes',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a', { usedBytes: 9 * GiB }), node('b', { duty: 'cordoned' }), node('c')],
    want: ['drop b, after a,c'],
  },
  {
    name: 'drops as many as are too many, each after all that stay',
    replicas: ['a', 'b', 'c', 'd'].map((name) => place(name)),
    nodes: ['a', 'b', 'c', 'd'].map((name) => node(name)),
    want: ['drop d, after a,b', 'drop c, after a,b'],
  },
  {
    name: 'copies from a draining node and does not count it',
    replicas: [place('a'), place('b')],
    nodes: [node('a', draining), node('b'), node('c')],
    want: ['copy a,b > c'],
    sound: 2,
  },
  {
    name: 'drops the replica of a draining node once enough others are there, after these were read again',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a', draining), node('b'), node('c')],
    want: ['drop a, after b,c'],
  },
  {
    name: 'does not drop from a draining node while one of the others is away',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a', draining), node('b'), node('c', away)],
    want: [],
    blocked: 'node-away',
  },
  {
    name: 'does not drop from a draining node while one of the others is not stable',
    replicas: [place('a'), place('b'), place('c', { stable: false })],
    nodes: [node('a', draining), node('b'), node('c')],
    want: [],
    blocked: 'node-away',
  },
  {
    name: 'gives up the place on a draining node that was given up, after the others were read again',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a', { ...draining, ...lost }), node('b'), node('c')],
    want: ['give up a, after b,c'],
  },
  {
    name: 'waits for a draining node that is away and not given up',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a', { ...draining, ...away }), node('b'), node('c')],
    want: [],
    blocked: 'node-away',
  },
  {
    name: 'says that no further node can take a copy',
    replicas: [place('a'), place('b')],
    nodes: [node('a', draining), node('b')],
    want: [],
    blocked: 'no-target',
  },
  {
    name: 'copies to no node that is cordoned, draining, full, away, or without room for the chunk',
    replicas: [place('a')],
    nodes: [
      node('a'),
      node('b', { duty: 'cordoned' }),
      node('c', draining),
      node('d', { heard: 'full', freeBytes: 0 }),
      node('e', away),
      node('f', { freeBytes: 100 }),
    ],
    want: [],
    blocked: 'no-target',
    sound: 1,
  },
  {
    name: 'copies to another zone than those that have the chunk, however little room is there',
    replicas: [place('a')],
    nodes: [node('a', { zone: 'attic' }), node('b', { zone: 'attic' }), node('c', { zone: 'cellar', freeBytes: GiB })],
    want: ['copy a > c'],
  },
  {
    name: 'copies into the same zone when there is no other',
    replicas: [place('a')],
    nodes: [node('a', { zone: 'attic' }), node('b', { zone: 'attic' }), node('c', { zone: 'cellar', ...away })],
    want: ['copy a > b'],
  },
  {
    name: 'makes all missing copies at once, on different nodes',
    replicas: [place('a')],
    nodes: [node('a'), node('b'), node('c')],
    wanted: 3,
    want: ['copy a > b', 'copy a > c'],
  },
  {
    name: 'makes those copies that it can, and says that others are missing',
    replicas: [place('a')],
    nodes: [node('a'), node('b')],
    wanted: 3,
    want: ['copy a > b'],
    blocked: 'no-target',
  },
  {
    name: 'follows the present rule of the realm when it wants fewer',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a'), node('b'), node('c', { usedBytes: 3 * GiB })],
    wanted: 1,
    want: ['drop b, after a', 'drop c, after a'],
  },
  {
    name: 'replaces a damaged copy where it lies, from a sound one',
    replicas: [place('a'), place('b', { damaged: true })],
    nodes: [node('a'), node('b'), node('c')],
    want: ['mend a > b'],
    sound: 1,
  },
  {
    name: 'replaces a damaged copy also on a cordoned node',
    replicas: [place('a'), place('b', { damaged: true })],
    nodes: [node('a'), node('b', { duty: 'cordoned' }), node('c')],
    want: ['mend a > b'],
  },
  {
    name: 'makes the copy elsewhere when the node of the damaged one is full, away, or draining',
    replicas: [place('a'), place('b', { damaged: true }), place('c', { damaged: true }), place('d', { damaged: true })],
    nodes: [node('a'), node('b', { heard: 'full' }), node('c', away), node('d', draining), node('e')],
    want: ['copy a > e'],
  },
  {
    name: 'drops a damaged copy that is one too many, after the others were read again',
    replicas: [place('a'), place('b'), place('c', { damaged: true })],
    nodes: [node('a'), node('b'), node('c')],
    want: ['drop c, after a,b'],
  },
  {
    name: 'keeps the only copy although it is damaged',
    replicas: [place('a', { damaged: true })],
    nodes: [node('a'), node('b'), node('c')],
    want: [],
    blocked: 'no-copy',
    sound: 0,
  },
  {
    name: 'keeps two damaged copies when there is no sound one: together they may serve every byte',
    replicas: [place('a', { damaged: true }), place('b', { damaged: true })],
    nodes: [node('a'), node('b'), node('c')],
    want: [],
    blocked: 'no-copy',
  },
  {
    name: 'gives up a lost disk, and may place the copy on the new disk of the same node',
    replicas: [place('a'), place('b', { disk: 'old-disk' })],
    nodes: [node('a'), node('b')],
    want: ['copy a > b'],
    sound: 1,
  },
  {
    name: 'drops the place on a lost disk once enough sound ones are there',
    replicas: [place('a'), place('b', { disk: 'old-disk' }), place('c')],
    nodes: [node('a'), node('b'), node('c')],
    want: ['give up b, after a,c'],
  },
  {
    name: 'drops the place on a node that the member does not have any more',
    replicas: [place('a'), place('x'), place('c')],
    nodes: [node('a'), node('c')],
    want: ['give up x, after a,c'],
  },
  {
    name: 'keeps the place on a lost disk while enough others only may be there',
    replicas: [place('a'), place('b', { disk: 'old-disk' }), place('c')],
    nodes: [node('a'), node('b'), node('c', away)],
    want: [],
    blocked: 'node-away',
  },
  {
    name: 'keeps the last known place although its disk is lost',
    replicas: [place('b', { disk: 'old-disk' })],
    nodes: [node('a'), node('b')],
    want: [],
    blocked: 'no-copy',
    sound: 0,
  },
  {
    name: 'waits when all that have a copy are away',
    replicas: [place('a'), place('b', { damaged: true })],
    nodes: [node('a', away), node('b'), node('c')],
    want: [],
    blocked: 'no-source',
    sound: 1,
  },
  {
    name: 'copies from a replica that is not stable yet while the start of its node that wrote it runs',
    replicas: [place('a', { stable: false })],
    nodes: [node('a'), node('b')],
    want: ['copy a > b'],
  },
  {
    name: 'does not copy from a replica that was not stable before its node was started anew',
    replicas: [place('a', { stable: false })],
    nodes: [node('a', { incarnation: 2 }), node('b')],
    want: [],
    blocked: 'no-source',
    sound: 1,
  },
  {
    name: 'does not drop a replica that is not stable yet, and says that it is not done',
    replicas: [place('a'), place('b'), place('c', { stable: false })],
    nodes: [node('a'), node('b'), node('c')],
    want: [],
    blocked: 'node-away',
  },
  {
    name: 'does not forget a damaged copy too many while its node is away',
    replicas: [place('a'), place('b'), place('c', { damaged: true })],
    nodes: [node('a'), node('b'), node('c', away)],
    want: [],
    blocked: 'node-away',
  },
];

for (const { name, replicas, nodes, wanted = 2, want, blocked, sound } of cases) {
  test(`D8: the plan ${name}`, () => {
    const plan = planRepair({ replicas, storedLength: 1_000 }, wanted, pictureOf(nodes), new SeededRandom(7));
    assert.deepEqual(plan.actions.map(told).sort(), [...want].sort());
    assert.equal(plan.blocked, blocked);
    if (sound !== undefined) assert.equal(plan.sound, sound);
  });
}

const garbageCases: (Case & { readonly condemned?: boolean })[] = [
  {
    name: 'leaves it alone, whatever became of its replicas',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a'), node('b', lost)],
    want: [],
  },
  {
    name: 'drops it from a draining node when one other has it, after that was read again',
    replicas: [place('a'), place('b'), place('c')],
    nodes: [node('a', draining), node('b'), node('c', away), node('d')],
    want: ['drop a, after b'],
  },
  {
    name: 'moves its only copy away from a draining node, for it may be named again',
    replicas: [place('a')],
    nodes: [node('a', draining), node('b')],
    want: ['copy a > b'],
  },
  {
    name: 'drops the place on a draining node that was given up when no copy of it is left',
    replicas: [place('a')],
    nodes: [node('a', { ...draining, ...lost }), node('b')],
    want: ['give up a, at once'],
  },
  {
    name: 'drops it from a draining node at once when it is condemned',
    replicas: [place('a'), place('b')],
    nodes: [node('a', draining), node('b')],
    condemned: true,
    want: ['drop a, at once'],
  },
  {
    name: 'waits for a draining node that is away to forget what is condemned',
    replicas: [place('a'), place('b')],
    nodes: [node('a', { ...draining, ...away }), node('b')],
    condemned: true,
    want: [],
    blocked: 'node-away',
  },
];

for (const { name, replicas, nodes, condemned = false, want, blocked } of garbageCases) {
  test(`D8: for garbage the plan ${name}`, () => {
    const plan = planClearance({ replicas, storedLength: 1_000 }, condemned, pictureOf(nodes), new SeededRandom(7));
    assert.deepEqual(plan.actions.map(told), want);
    assert.equal(plan.blocked, blocked);
  });
}

test('D8: what of garbage still has to move is what clearance would copy, wherever its copies lie', () => {
  const random = new SeededRandom(11);
  const kinds = [{}, draining, away, lost, { ...draining, ...away }, { ...draining, ...lost }];
  for (let i = 0; i < 2_000; i++) {
    const nodes = ['a', 'b', 'c'].map((name) => node(name, pickOne(random, kinds)));
    const replicas = ['a', 'b', 'c', 'gone']
      .filter(() => randomBelow(random, 2) === 0)
      .map((name) => place(name, { damaged: randomBelow(random, 4) === 0 }));
    const picture = pictureOf(nodes);
    const plan = planClearance({ replicas, storedLength: 1_000 }, false, picture, random);
    const waits = nodes.some(
      ({ name, duty }) => duty === 'draining' && isLastOfGarbage({ replicas, storedLength: 1_000 }, name, picture),
    );
    assert.equal(waits, plan.missing > 0, JSON.stringify({ nodes, replicas, plan }));
  }
});

test('D8: copies follow free space among nodes of equal worth, and sources take turns', () => {
  const random = new SeededRandom(3);
  const nodes = [node('a'), node('b'), node('small', { freeBytes: GiB }), node('large', { freeBytes: 9 * GiB })];
  const targets = new Map<string, number>();
  const firsts = new Map<string, number>();
  for (let i = 0; i < 1_000; i++) {
    const row = { replicas: [place('a'), place('b')], storedLength: 1_000 };
    const [action] = planRepair(row, 3, pictureOf(nodes), random).actions;
    assert.ok(action?.kind === 'copy');
    targets.set(action.to.node, (targets.get(action.to.node) ?? 0) + 1);
    firsts.set(action.sources[0] ?? '', (firsts.get(action.sources[0] ?? '') ?? 0) + 1);
  }
  assert.ok((targets.get('large') ?? 0) > 850 && (targets.get('small') ?? 0) > 50, JSON.stringify([...targets]));
  assert.ok((firsts.get('a') ?? 0) > 400 && (firsts.get('b') ?? 0) > 400, JSON.stringify([...firsts]));
});

test('D8: a drop that was planned before is carried out only if it is still planned and rests on what was read again', () => {
  const nodes = [node('a'), node('b'), node('c', draining), node('d')];
  const row = { replicas: ['a', 'b', 'c'].map((name) => place(name)), storedLength: 1_000 };
  const random = new SeededRandom(1);
  const [drop] = planRepair(row, 2, pictureOf(nodes), random).actions as [DropAction];
  const isStill = (replicas: ReplicaPlace[], present: PicturedNode[]): boolean =>
    mayDrop(planRepair({ ...row, replicas }, 2, pictureOf(present), random), drop);
  assert.ok(isStill(row.replicas, nodes));
  const fuller = node('a', { usedBytes: 5 * GiB });
  assert.ok(!isStill(row.replicas, [fuller, node('b'), node('c')]), 'the node drains no more, another is to go');
  assert.ok(!isStill(row.replicas, [node('a', away), node('b'), node('c', draining)]), 'one that was read is away');
  const damaged = [place('a', { damaged: true }), place('b'), place('c')];
  assert.ok(!isStill(damaged, nodes), 'one that was read was found damaged since');
  const moved = [place('a'), place('d'), place('c')];
  assert.ok(!isStill(moved, nodes), 'it would rest on a replica that was not read');
  assert.ok(!isStill([place('a'), place('b')], nodes), 'it is gone already');
});
