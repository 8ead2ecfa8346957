/**
 * One chunk through random lives (D8): nodes go, come back, lose disks, rot, drain, and the rule of the realm changes, while
 * plans are made and carried out in any order, also long after they were made. What may not happen is that a sound copy which
 * somebody could have read is dropped; what must happen, once the nodes are well, is that the wanted replicas are there.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '@collective/base/random';
import fc from 'fast-check';
import type { ReplicaPlace } from '../tables/gen/tables.ts';
import type { Duty, NodePicture } from './node-picture.ts';
import {
  type CopyAction,
  type DropAction,
  mayDrop,
  type Place,
  planRepair,
  type RepairAction,
  type RepairPlan,
} from './plan-repair.ts';

const NODES = ['a', 'b', 'c', 'd', 'e'] as const;
type Name = (typeof NODES)[number];
const PENDING_MAX = 20;

interface Machine {
  disk: number;
  heard: 'ready' | 'full' | 'away';
  lost: boolean;
  duty: Duty;
  usedBytes: number;
  /** What really lies on its disk. */
  copy: 'good' | 'bad' | undefined;
}

class World {
  readonly machines = new Map<Name, Machine>(
    NODES.map((name) => [
      name,
      { disk: 0, heard: 'ready', lost: false, duty: 'active', usedBytes: 100, copy: undefined },
    ]),
  );
  readonly pending: RepairAction[] = [];
  wanted = 2;
  #replicas: ReplicaPlace[] = [];
  readonly #random: SeededRandom;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    for (const name of ['a', 'b'] as const) {
      this.machine(name).copy = 'good';
      this.#replicas.push(this.#placeOn(name));
    }
  }

  machine(name: string): Machine {
    return this.machines.get(name as Name) as Machine;
  }

  get replicas(): readonly ReplicaPlace[] {
    return this.#replicas;
  }

  /** Named, on the disk that is there, and right: what a reader could be given, now or when its node is back. */
  soundCopies(): string[] {
    return this.#replicas.filter((place) => this.#holds(place) === 'good').map(({ node }) => node);
  }

  plan(): RepairPlan {
    const { wanted } = this;
    return planRepair({ replicas: this.#replicas, storedLength: 10 }, wanted, this.#picture(), this.#random);
  }

  /** As `jobs/` carry an action out. */
  carryOut(action: RepairAction): void {
    if (action.kind === 'copy') this.#copy(action);
    else this.#drop(action);
  }

  /** The node reads what it has and tells. */
  scrub(name: Name): void {
    if (this.machine(name).heard === 'away') return;
    for (const place of this.#replicas)
      if (place.node === name && this.#isOnDisk(place) && this.#holds(place) !== 'good') this.#markDamaged(place);
  }

  #copy({ to, replaces, sources }: CopyAction): void {
    const target = this.machine(to.node);
    if (target.heard !== 'ready' || !this.#isOnDisk(to)) return;
    const found = sources
      .map((source) => this.machine(source))
      .find((each) => each.heard !== 'away' && each.copy === 'good');
    if (found === undefined) return;
    // A node that has the chunk already answers that it has it, whatever became of its bytes, unless it is told to replace it.
    if (target.copy === undefined || replaces) target.copy = 'good';
    this.#replicas = [...this.#replicas.filter(({ node }) => node !== to.node), this.#placeOn(to.node)];
  }

  #drop(drop: DropAction): void {
    const wrong = drop.reread.filter((place) => !this.#verifies(place));
    for (const place of wrong)
      if (this.machine(place.node).heard !== 'away' && this.#isOnDisk(place)) this.#markDamaged(place);
    if (wrong.length > 0 || !mayDrop(this.plan(), drop)) return;
    this.#replicas = this.#replicas.filter(({ node, disk }) => node !== drop.place.node || disk !== drop.place.disk);
    const machine = this.machine(drop.place.node);
    if (drop.forgets && machine.heard !== 'away' && this.#isOnDisk(drop.place)) machine.copy = undefined;
  }

  #verifies(place: Place): boolean {
    return this.machine(place.node).heard !== 'away' && this.#holds(place) === 'good';
  }

  #holds(place: Place): Machine['copy'] {
    return this.#isOnDisk(place) ? this.machine(place.node).copy : undefined;
  }

  #isOnDisk({ node, disk }: Place): boolean {
    return disk === `${node}-${this.machine(node).disk}`;
  }

  #markDamaged(place: Place): void {
    this.#replicas = this.#replicas.map((each) =>
      each.node === place.node && each.disk === place.disk ? { ...each, damaged: true } : each,
    );
  }

  #placeOn(name: string): ReplicaPlace {
    const disk = `${name}-${this.machine(name).disk}`;
    return { node: name, disk, stable: true, incarnation: 1, sequence: 1, damaged: false };
  }

  #picture(): NodePicture {
    return new Map(
      [...this.machines].map(([name, { disk, heard, lost, duty, usedBytes }]) => [
        name,
        {
          name,
          disk: `${name}-${disk}`,
          incarnation: 1,
          heard,
          duty,
          zone: name < 'c' ? 'attic' : 'cellar',
          capacityBytes: 1_000,
          usedBytes,
          freeBytes: heard === 'full' ? 0 : 900,
          awayForMs: 0,
          lost: heard === 'away' && lost,
        },
      ]),
    );
  }
}

/** What happens to the world, each with a number that chooses among what it can happen to. */
const HAPPENINGS: Record<string, (world: World, name: Name, choice: number) => void> = {
  'goes away': (world, name) => {
    world.machine(name).heard = 'away';
  },
  'is given up': (world, name) => {
    world.machine(name).lost = world.machine(name).heard === 'away';
  },
  'comes back': (world, name, choice) => {
    Object.assign(world.machine(name), { heard: choice % 5 === 0 ? 'full' : 'ready', lost: false });
  },
  'comes with another disk': (world, name) => {
    if (world.soundCopies().every((other) => other === name)) return;
    Object.assign(world.machine(name), {
      disk: world.machine(name).disk + 1,
      copy: undefined,
      heard: 'ready',
      lost: false,
    });
  },
  rots: (world, name) => {
    const machine = world.machine(name);
    if (world.soundCopies().every((other) => other === name) || machine.copy === undefined) return;
    machine.copy = 'bad';
  },
  scrubs: (world, name) => world.scrub(name),
  'gets a duty': (world, name, choice) => {
    world.machine(name).duty = (['active', 'cordoned', 'draining'] as const)[choice % 3] ?? 'active';
  },
  'gets a rule': (world, _name, choice) => {
    world.wanted = 1 + (choice % 3);
  },
  fills: (world, name, choice) => {
    world.machine(name).usedBytes = choice;
  },
  plans: (world) => {
    world.pending.push(...world.plan().actions);
    while (world.pending.length > PENDING_MAX) world.pending.shift();
  },
  'carries out': (world, _name, choice) => {
    const [action] = world.pending.splice(choice % Math.max(1, world.pending.length), 1);
    if (action !== undefined) world.carryOut(action);
  },
};

const happening = fc.record({
  what: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom('plans', 'carries out') },
    { weight: 2, arbitrary: fc.constantFrom(...Object.keys(HAPPENINGS)) },
  ),
  name: fc.constantFrom(...NODES),
  choice: fc.nat(1_000),
});

/** Long ones: what is dangerous needs several things to meet. */
const lifeOf = (maxLength: number) => fc.array(happening, { minLength: maxLength / 4, maxLength, size: 'max' });

test('D8: whatever happens in whatever order, no plan takes the last sound copy, and all is well when the nodes are', () => {
  fc.assert(
    fc.property(fc.nat(), lifeOf(120), (seed, happenings) => {
      const world = new World(seed);
      for (const { what, name, choice } of happenings) {
        const before = world.soundCopies().length;
        HAPPENINGS[what]?.(world, name, choice);
        const after = world.soundCopies().length;
        assert.ok(after > 0, `a sound copy is left after one ${what}`);
        if (what === 'carries out')
          assert.ok(after >= Math.min(before, world.wanted), `${after} of ${before} are left`);
        const nodes = world.replicas.map(({ node }) => node);
        assert.equal(new Set(nodes).size, nodes.length, `one replica a node, but ${nodes}`);
      }
      for (const machine of world.machines.values())
        Object.assign(machine, { heard: 'ready', lost: false, duty: 'active' });
      settle(world);
      assert.equal(world.replicas.length, world.wanted);
      assert.deepEqual(
        world.soundCopies(),
        world.replicas.map(({ node }) => node),
      );
      assert.equal(world.plan().blocked, undefined);
    }),
    { numRuns: 2_000 },
  );
});

test('D8: a drain ends: with room elsewhere, nothing is left on a node after its plans were carried out', () => {
  fc.assert(
    fc.property(fc.nat(), lifeOf(60), fc.constantFrom(...NODES), (seed, happenings, drained) => {
      const world = new World(seed);
      for (const { what, name, choice } of happenings) HAPPENINGS[what]?.(world, name, choice);
      for (const [name, machine] of world.machines)
        Object.assign(machine, { heard: 'ready', lost: false, duty: name === drained ? 'draining' : 'active' });
      settle(world);
      assert.ok(!world.replicas.some(({ node }) => node === drained), 'no row names it');
      assert.equal(world.soundCopies().length, world.wanted);
    }),
    { numRuns: 500 },
  );
});

/** Plans and carries out until there is nothing to do, as the job does when nothing comes in between. */
function settle(world: World): void {
  for (let rounds = 0; ; rounds++) {
    assert.ok(rounds < 20, `it comes to rest: ${JSON.stringify(world.plan())}`);
    for (const name of NODES) world.scrub(name);
    const { actions } = world.plan();
    if (actions.length === 0) return;
    for (const action of actions) world.carryOut(action);
  }
}
