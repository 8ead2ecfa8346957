/** How a coordinator knows its nodes (D7, D10, M2a), over a memory link on virtual time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { chunkIdOf, type Epoch, type NodeName, type SessionId } from '@collective/base/ids';
import { HEARTBEAT_INTERVAL_MS, NODE_AWAY_AFTER_MS, WIRE_VERSION } from '@collective/base/limits';
import { SeededRandom } from '@collective/base/random';
import { isGenuineTicket } from '@collective/protocol/access/ticket';
import { accessPublicKey, verifyAccess } from '@collective/protocol/access/token';
import { NodeState } from '@collective/protocol/gen/common';
import type { CoordinatorMessage, NodeMessage, NodeReport, Welcome } from '@collective/protocol/gen/node';
import type { Link } from '@collective/protocol/link/link';
import { type MemoryLinkPair, memoryLinkPair } from '@collective/protocol/link/memory-link';
import { Engine } from '../engine/engine.ts';
import { FileLog } from '../log/file-log.ts';
import { MemoryStore, MemoryStoreDisk } from '../store/memory-store.ts';
import { AccessKeys } from './access-keys.ts';
import { MemberData } from './member-data.ts';
import { NodeLinks } from './node-link.ts';
import { NodeTable } from './node-table.ts';

const NODE = 'node-1' as NodeName;
const OTHER = 'node-2' as NodeName;
const GiB = 1024 ** 3;

test('D10: a node registers by itself and is reached by the address of the listener', async () => {
  const world = await World.open();
  const node = world.connect(NODE);
  const welcome = await node.register(report({ zone: 'a' }));
  assert.equal(welcome.heartbeatIntervalMs, HEARTBEAT_INTERVAL_MS);
  assert.deepEqual(welcome.epoch, world.epoch);
  assert.deepEqual(world.nodes.routes('internal'), [
    { name: NODE, host: '10.0.0.1', port: 7431, state: NodeState.READY, zone: 'a' },
  ]);
  assert.equal(world.nodes.routes('external')[0]?.host, 'files.example.org');
  assert.deepEqual(world.nodes.candidates(), [{ name: NODE, zone: 'a', freeBytes: 5 * GiB }]);
  assert.deepEqual(world.nodes.space(), { capacityBytes: 10 * GiB, freeBytes: 5 * GiB, usedBytes: GiB });
});

test('D8: a node without a heartbeat for five seconds is away, and ready with its next', async () => {
  const world = await World.open();
  const node = world.connect(NODE);
  await node.register(report());
  await world.clock.advance(NODE_AWAY_AFTER_MS - 1);
  assert.equal(world.stateOf(NODE), NodeState.READY);
  await world.clock.advance(2);
  assert.equal(world.stateOf(NODE), NodeState.AWAY);
  assert.deepEqual(world.nodes.candidates(), []);
  await node.heartbeat(report());
  assert.equal(world.stateOf(NODE), NodeState.READY);
});

test('D8: a broken link alone does not make a node away', async () => {
  const world = await World.open();
  const node = world.connect(NODE);
  await node.register(report());
  node.pair.cut();
  await world.clock.advance(1_000);
  assert.equal(world.stateOf(NODE), NodeState.READY);
  assert.equal(world.links.count, 0);
});

test('a full node gets no new chunks and still counts', async () => {
  const world = await World.open();
  await world.connect(NODE).register(report({ full: true, freeBytes: 0 }));
  assert.equal(world.stateOf(NODE), NodeState.FULL);
  assert.deepEqual(world.nodes.candidates(), []);
});

test('D10: a known name with another disk is a lost disk, remembered over restarts', async () => {
  const world = await World.open();
  await world.connect(NODE).register(report({ disk: 'disk-a' }));
  await world.connect(NODE).register(report({ disk: 'disk-a' }));
  assert.deepEqual(world.lostDisks, []);
  await world.connect(NODE).register(report({ disk: 'disk-b' }));
  assert.deepEqual(world.lostDisks, [[NODE, 'disk-a', 'disk-b']]);
  const restarted = await world.restart();
  assert.deepEqual(restarted.nodes.get(NODE)?.row.lostDisks, ['disk-a']);
});

test('D10: a restarted coordinator knows who exists at once, and all of it within one heartbeat', async () => {
  const world = await World.open();
  await world.connect(NODE).register(report());
  const restarted = await world.restart();
  assert.equal(restarted.stateOf(NODE), NodeState.AWAY);
  assert.equal(restarted.nodes.routes('internal')[0]?.host, '10.0.0.1');
  await restarted.connect(NODE).register(report());
  assert.equal(restarted.stateOf(NODE), NodeState.READY);
  assert.equal(restarted.nodes.space().freeBytes, 5 * GiB);
});

test('D7: each answer to a heartbeat carries keys, and the routes of all nodes by their internal listener', async () => {
  const world = await World.open();
  const [first, second] = [world.connect(NODE), world.connect(OTHER)];
  const mine = await first.register(report());
  const theirs = await second.register(report({ addresses: [{ listener: 'internal', host: '10.0.0.2', port: 7432 }] }));
  assert.notDeepEqual(mine.ticketKey, theirs.ticketKey);
  assert.deepEqual(mine.signingKeys, theirs.signingKeys);
  const update = await first.heartbeat(report());
  assert.deepEqual(
    update.nodes.map(({ host }) => host),
    ['10.0.0.1', '10.0.0.2'],
  );
});

test('D10: a node that registers is made known to the others at once, so that they can forward to it', async () => {
  const world = await World.open();
  const [first, second] = [world.connect(NODE), world.connect(OTHER)];
  await first.register(report());
  await second.register(report({ addresses: [{ listener: 'internal', host: '10.0.0.2', port: 7432 }] }));
  const pushed = (await world.clock.finish(first.link.receive()))?.message;
  assert.ok(pushed?.$case === 'update');
  assert.deepEqual(
    pushed.value.nodes.map(({ name }) => name),
    [NODE, OTHER],
  );
});

test('D7: what the coordinator issues, a node verifies with what its heartbeat brought, before and after the keys turned over', async () => {
  const world = await World.open();
  const node = world.connect(NODE);
  const before = await node.register(report());
  const session = 7 as SessionId;
  const chunk = chunkIdOf(world.epoch, 100);
  const issue = () => ({
    token: world.data.issueAccess({
      subject: 'spiffe://sim.home/user/ann',
      session,
      write: true,
      epoch: world.epoch,
      firstChunk: 100,
      lastChunk: 199,
    }).token,
    ticket: world.data.ticket(NODE, chunk, session),
  });
  const holds = ({ token, ticket }: ReturnType<typeof issue>, welcome: Welcome): boolean => {
    const keys = new Map(welcome.signingKeys.map(({ id, publicKey }) => [id, accessPublicKey(publicKey)]));
    assert.equal(verifyAccess(token, keys).session, session);
    const facts = { chunk, session, expiresSeconds: ticket?.expires?.seconds ?? 0 };
    return isGenuineTicket([welcome.ticketKey, welcome.previousTicketKey], facts, ticket?.ticket ?? Buffer.alloc(0));
  };
  const old = issue();
  assert.ok(holds(old, before));
  await world.clock.advance(25 * 3_600_000);
  await world.keys.rotateWhenDue();
  const again = world.connect(NODE);
  const after = await again.register(report({ time: world.clock.now() }));
  assert.ok(holds(old, after), 'the key before is still valid');
  assert.ok(holds(issue(), before), 'a new key is not used before every node has had time to learn it');
  await world.clock.advance(10_000);
  const fresh = issue();
  assert.ok(holds(fresh, after));
  assert.throws(
    () => holds(fresh, before),
    (thrown) => thrown instanceof CollectiveError && thrown.code === 'token_invalid',
  );
  assert.equal(world.data.ticket('node-9', chunk, session), undefined);
});

test('D7: keys outlive a restart, so that uploads under way go on', async () => {
  const world = await World.open();
  const before = await world.connect(NODE).register(report());
  const restarted = await world.restart();
  const after = await restarted.connect(NODE).register(report());
  assert.deepEqual(after.signingKeys, before.signingKeys);
  assert.deepEqual(after.ticketKey, before.ticketKey);
});

const refused: { name: string; report: Partial<NodeReport>; code: string }[] = [
  {
    name: 'M2a: has served a newer epoch than ours',
    report: { highestEpoch: { generation: 4_000_000_000, start: 1 } },
    code: 'fenced',
  },
  { name: 'speaks another version', report: { wireVersion: WIRE_VERSION + 1 }, code: 'version_too_new' },
  { name: 'names no disk', report: { disk: '' }, code: 'invalid_argument' },
  {
    name: 'has a clock that differs by two minutes',
    report: { time: { seconds: 1_767_225_600 + 120, nanos: 0 } },
    code: 'clock_wrong',
  },
];

for (const { name, report: facts, code } of refused) {
  test(`a node is refused that ${name}`, async () => {
    const world = await World.open();
    const node = world.connect(NODE);
    assert.equal(await node.refusal({ message: { $case: 'register', value: report(facts) } }), code);
    assert.equal(world.nodes.get(NODE), undefined);
    const [refusal, ...more] = world.nodes.refusals();
    assert.deepEqual([refusal?.name, refusal?.code, more], [NODE, code, []]);
  });
}

test('D10: that a node is refused is known until it is taken, or tries no more; how far off its clock is until its next report', async () => {
  const world = await World.open();
  const tries = (seconds: number) => {
    const { seconds: now } = world.clock.now();
    return { message: { $case: 'register', value: report({ time: { seconds: now + seconds, nanos: 0 } }) } } as const;
  };
  assert.equal(await world.connect(NODE).refusal(tries(90)), 'clock_wrong');
  await world.clock.advance(300_000);
  assert.match(world.nodes.refusals()[0]?.message ?? '', /its clock differs by 90 s/);
  await world.clock.advance(301_000);
  assert.deepEqual(world.nodes.refusals(), []);
  assert.equal(await world.connect(NODE).refusal(tries(-61)), 'clock_wrong');
  await world.connect(NODE).register(tries(-40).message.value);
  assert.deepEqual(world.nodes.refusals(), []);
  assert.equal(world.nodes.status()[0]?.clockOffMs, -40_000);
});

test('a link that does not begin with a registration is refused', async () => {
  const world = await World.open();
  assert.equal(
    await world.connect(NODE).refusal({ message: { $case: 'heartbeat', value: report() } }),
    'invalid_argument',
  );
});

test('M2a: a node that has served a newer epoch tells the coordinator that it must not go on', async () => {
  const world = await World.open();
  const newer = { generation: 4_000_000_000, start: 1 };
  await world.connect(NODE).refusal({ message: { $case: 'register', value: report({ highestEpoch: newer }) } });
  assert.deepEqual(world.newerEpochs, [newer]);
});

test('D10: a new link of a node takes over, the older one is told and closed', async () => {
  const world = await World.open();
  const old = world.connect(NODE);
  await old.register(report());
  const fresh = world.connect(NODE);
  await fresh.register(report());
  assert.equal(await old.nextRefusal(), 'fenced');
  assert.equal(await world.clock.finish(old.link.receive()), undefined);
  await fresh.heartbeat(report());
  assert.equal(world.links.count, 1);
});

test('D3: a node is asked which chunks it has; silence and a broken link are answers too', async () => {
  const world = await World.open();
  const node = world.connect(NODE);
  await node.register(report());
  const [one, two] = [chunkIdOf(world.epoch, 1), chunkIdOf(world.epoch, 2)];
  const asking = world.links.askChunks(NODE, [one, two]);
  const question = (await world.clock.finish(node.link.receive()))?.message;
  assert.ok(question?.$case === 'askChunks');
  assert.equal(question.value.chunks.length, 2);
  node.link.send({
    message: { $case: 'chunksHeld', value: { question: question.value.question, held: [Buffer.from(two, 'hex')] } },
  });
  assert.deepEqual(await world.clock.finish(asking), new Set([two]));

  const isUnavailable = hasCode('unavailable');
  await assert.rejects(world.clock.finish(world.links.askChunks(NODE, [one])), isUnavailable);
  await node.heartbeat(report());
  const broken = world.links.askChunks(NODE, [one]);
  broken.catch(() => undefined);
  node.pair.cut();
  await assert.rejects(world.clock.finish(broken), isUnavailable);
  await assert.rejects(world.links.askChunks(OTHER, [one]), isUnavailable);
});

test('D3: a node is asked to sync, and answers with its store and what it has; a bounded number of questions wait', async () => {
  const world = await World.open();
  const node = world.connect(NODE);
  await node.register(report());
  const [one, two] = [chunkIdOf(world.epoch, 1), chunkIdOf(world.epoch, 2)];
  const asking = world.links.makeStable(NODE, [one, two]);
  const question = (await world.clock.finish(node.link.receive()))?.message;
  assert.ok(question?.$case === 'makeStable');
  assert.deepEqual(
    question.value.chunks.map((chunk) => Buffer.from(chunk).toString('hex')),
    [one, two],
  );
  const store = { disk: 'disk-a', incarnation: 4, stableSequence: 70 };
  const held = [Buffer.from(one, 'hex')];
  node.link.send({
    message: { $case: 'chunksStable', value: { question: question.value.question, ...store, held } },
  });
  assert.deepEqual(await world.clock.finish(asking), { store, held: new Set([one]) });

  await assert.rejects(world.links.makeStable(OTHER, [one]), hasCode('unavailable'));
  const many = Array.from({ length: 1_024 }, () => world.links.makeStable(NODE, [one]));
  for (const each of many) each.catch(() => undefined);
  await assert.rejects(world.links.makeStable(NODE, [one]), hasCode('overloaded'));
  node.pair.cut();
  for (const each of many) await assert.rejects(world.clock.finish(each), hasCode('unavailable'));
});

test('a link on which nothing comes is closed, so that the node opens another', async () => {
  const world = await World.open();
  const node = world.connect(NODE);
  await node.register(report());
  await world.clock.advance(20_000);
  assert.equal(world.links.count, 0);
  assert.equal(await world.clock.finish(node.link.receive()), undefined);
});

const hasCode =
  (code: string) =>
  (thrown: unknown): boolean =>
    thrown instanceof CollectiveError && thrown.code === code;

function report(facts: Partial<NodeReport> = {}): NodeReport {
  return {
    disk: 'disk-a',
    incarnation: 1,
    capacityBytes: 10 * GiB,
    usedBytes: GiB,
    freeBytes: 5 * GiB,
    full: false,
    stableSequence: 0,
    chunkCount: 0,
    inventoryDigest: 0,
    zone: '',
    addresses: [
      { listener: 'internal', host: '10.0.0.1', port: 7431 },
      { listener: 'external', host: 'files.example.org', port: 443 },
    ],
    version: '0.1.0',
    wireVersion: WIRE_VERSION,
    highestEpoch: undefined,
    bundleHash: '',
    time: undefined,
    certificateExpires: undefined,
    damaged: [],
    scrub: undefined,
    deadBytes: 0,
    ...facts,
  };
}

/** The node's end of a link, played by the test. */
class PlayedNode {
  readonly pair: MemoryLinkPair<NodeMessage, CoordinatorMessage>;
  readonly #clock: FakeClock;

  constructor(pair: MemoryLinkPair<NodeMessage, CoordinatorMessage>, clock: FakeClock) {
    this.pair = pair;
    this.#clock = clock;
  }

  get link(): Link<NodeMessage, CoordinatorMessage> {
    return this.pair.left;
  }

  register(value: NodeReport): Promise<Welcome> {
    return this.#exchange({ message: { $case: 'register', value } }, 'welcome');
  }

  heartbeat(value: NodeReport): Promise<Welcome> {
    return this.#exchange({ message: { $case: 'heartbeat', value } }, 'update');
  }

  async refusal(message: NodeMessage): Promise<string | undefined> {
    this.link.send(message);
    return await this.nextRefusal();
  }

  async nextRefusal(): Promise<string | undefined> {
    const answer = (await this.#clock.finish(this.link.receive()))?.message;
    assert.ok(answer?.$case === 'refused', `not refused but ${answer?.$case}`);
    return answer.value.failure?.code;
  }

  /** Questions that come in between are left unanswered. */
  async #exchange(message: NodeMessage, wanted: 'welcome' | 'update'): Promise<Welcome> {
    this.link.send(message);
    for (;;) {
      const answer = (await this.#clock.finish(this.link.receive()))?.message;
      if (answer?.$case === 'askChunks') continue;
      assert.ok(answer?.$case === wanted, `not ${wanted} but ${answer?.$case}`);
      return answer.value;
    }
  }
}

/** One start of a coordinator's membership on virtual time; `restart` is the next over the same data. */
class World {
  readonly clock: FakeClock;
  readonly keys: AccessKeys;
  readonly nodes: NodeTable;
  readonly links: NodeLinks;
  readonly data: MemberData;
  readonly epoch: Epoch;
  readonly lostDisks: [string, string, string][];
  readonly newerEpochs: Epoch[] = [];
  readonly #engine: Engine;
  readonly #disk: FakeDisk;
  readonly #view: MemoryStoreDisk;

  static async open(clock = new FakeClock(), disk = new FakeDisk(), view = new MemoryStoreDisk()): Promise<World> {
    return await clock.finish(
      (async () => {
        const random = new SeededRandom(1);
        await disk.makeFolder('log');
        const log = await FileLog.open({ disk, clock, random, folder: 'log' });
        const fail = (error: Error): never => {
          throw error;
        };
        const engine = await Engine.start({ clock, log, store: new MemoryStore(view), onFatal: fail });
        const keys = await AccessKeys.load({ disk, path: 'access-keys.json', clock, random });
        const lostDisks: [string, string, string][] = [];
        const nodes = await NodeTable.load({
          clock,
          engine,
          events: {
            diskLost: (...lost) => lostDisks.push(lost),
            nodeCame: () => undefined,
            nodeWentAway: () => undefined,
          },
        });
        return new World({
          clock,
          disk,
          view,
          engine,
          keys,
          nodes,
          lostDisks,
          data: new MemberData({
            clock,
            random,
            nodes,
            keys,
            makeStable: () => Promise.reject(new CollectiveError('unavailable', 'Ask a node: not in this test')),
          }),
        });
      })(),
    );
  }

  private constructor(
    parts: Pick<World, 'clock' | 'keys' | 'nodes' | 'lostDisks' | 'data'> & {
      disk: FakeDisk;
      view: MemoryStoreDisk;
      engine: Engine;
    },
  ) {
    const { clock, keys, nodes, engine } = parts;
    this.clock = clock;
    this.keys = keys;
    this.nodes = nodes;
    this.data = parts.data;
    this.lostDisks = parts.lostDisks;
    this.epoch = engine.epoch;
    this.#engine = engine;
    this.#disk = parts.disk;
    this.#view = parts.view;
    this.links = new NodeLinks({
      scrubPeriodSeconds: () => 0,
      told: () => undefined,
      clock,
      epoch: engine.epoch,
      member: 'alice',
      nodes,
      keys,
      onReport: () => undefined,
      onNewerEpoch: (_node, epoch) => this.newerEpochs.push(epoch),
      log: () => undefined,
    });
  }

  connect(node: NodeName): PlayedNode {
    const pair = memoryLinkPair<NodeMessage, CoordinatorMessage>({ clock: this.clock });
    void this.links.serve(pair.right, node, new AbortController().signal);
    return new PlayedNode(pair, this.clock);
  }

  stateOf(node: NodeName): NodeState | undefined {
    return this.nodes.routes('internal').find(({ name }) => name === node)?.state;
  }

  async restart(): Promise<World> {
    await this.clock.finish(this.#engine.close());
    return await World.open(this.clock, this.#disk.again(), this.#view);
  }
}
