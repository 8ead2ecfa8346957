import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { chunkIdToBytes, type Epoch } from '@collective/base/ids';
import { HEARTBEAT_INTERVAL_MS } from '@collective/base/limits';
import { silentLog } from '@collective/base/log';
import { SeededRandom } from '@collective/base/random';
import type { CoordinatorMessage, NodeMessage, NodeReport, Welcome } from '@collective/protocol/gen/node';
import type { Link } from '@collective/protocol/link/link';
import { memoryLinkPair } from '@collective/protocol/link/memory-link';
import { FileChunkStore } from '../chunk-store/file-chunk-store.ts';
import { scratchChunk, scratchId } from '../chunk-store/scratch-chunk.ts';
import { AccessControl } from './access-control.ts';
import { BlockFolder } from './block-folder.ts';
import { ChunkFetcher } from './chunk-fetcher.ts';
import { CoordinatorLink, type NodeLink } from './coordinator-link.ts';
import { OrderTaker } from './order-taker.ts';
import { PeerConnections } from './peer-connections.ts';
import { ScratchCoordinator } from './scratch-node.ts';

const EPOCH: Epoch = { generation: 1_700_000_000, start: 5 };

interface Connection {
  readonly link: Link<CoordinatorMessage, NodeMessage>;
  readonly messages: NodeMessage[];
  closed: boolean;
}

/** The coordinator's end of every link that the node opens. */
class World {
  scrubPeriodSeconds: number | undefined;
  readonly clock = new FakeClock({ startSeconds: 1_800_000_000 });
  syncMs = 0;
  readonly disk = new FakeDisk({ clock: this.clock, latencyMs: ({ kind }) => (kind === 'sync' ? this.syncMs : 0) });
  readonly coordinator = new ScratchCoordinator(EPOCH);
  readonly connections: Connection[] = [];
  readonly stop = new AbortController();
  reachable = true;
  access!: AccessControl;
  store!: FileChunkStore;
  link!: CoordinatorLink;
  ended!: Promise<void>;
  dials = 0;

  async start(): Promise<void> {
    const { clock, disk } = this;
    const random = new SeededRandom(1);
    this.store = await clock.finish(FileChunkStore.open({ disk, clock, random, capacityBytes: 2 ** 30 }));
    this.access = await clock.finish(AccessControl.open(disk, clock));
    const connector = { connect: () => Promise.reject(new CollectiveError('unavailable', 'Connect: no network here')) };
    const { access, store } = this;
    const peers = new PeerConnections({ connector, clock, program: 'test', connectionsPerNodeMax: 1 });
    const fetcher = new ChunkFetcher({ store, peers });
    const folder = new BlockFolder(store, peers);
    this.link = new CoordinatorLink({
      connect: async () => this.#dial(),
      report: () => this.#report(),
      store,
      access,
      orders: new OrderTaker({ clock, store, fetcher, folder, node: 'one', log: silentLog, scrubNow: () => undefined }),
      setRoutes: (routes) => peers.setRoutes(routes),
      setScrubPeriod: (seconds) => {
        this.scrubPeriodSeconds = seconds;
      },
      clock,
      random,
      log: silentLog,
    });
    this.ended = this.link.run(this.stop.signal);
  }

  /** Waits for the next link and its registration. */
  async registration(): Promise<{ connection: Connection; report: NodeReport }> {
    const seen = this.connections.length;
    await this.clock.until(
      () => (this.connections[seen]?.messages.length ?? 0) > 0 || (this.connections.at(-1)?.messages.length ?? 0) === 1,
    );
    const connection = this.connections.at(-1);
    const first = connection?.messages[0]?.message;
    assert.ok(connection !== undefined && first?.$case === 'register');
    return { connection, report: first.value };
  }

  welcome(connection: Connection, change: Partial<Welcome> = {}, kind: 'welcome' | 'update' = 'welcome'): void {
    connection.link.send({ message: { $case: kind, value: { ...this.coordinator.welcome('one'), ...change } } });
  }

  /** The node's own certificate has changed. */
  replaceLink = (): void => undefined;

  #dial(): NodeLink {
    this.dials++;
    if (!this.reachable) throw new CollectiveError('unavailable', 'Connect to the coordinator: refused');
    const { left, right } = memoryLinkPair<NodeMessage, CoordinatorMessage>({ clock: this.clock });
    const connection: Connection = { link: right, messages: [], closed: false };
    this.connections.push(connection);
    void this.#record(connection);
    let outdated = false;
    this.replaceLink = () => {
      outdated = true;
      left.close();
    };
    return Object.defineProperty(left, 'outdated', { get: () => outdated });
  }

  async #record(connection: Connection): Promise<void> {
    try {
      for (
        let message = await connection.link.receive();
        message !== undefined;
        message = await connection.link.receive()
      )
        connection.messages.push(message);
    } catch (error) {
      assert.ok(error instanceof CollectiveError);
    }
    connection.closed = true;
  }

  #report(): NodeReport {
    return {
      disk: this.store.disk,
      incarnation: this.store.incarnation,
      capacityBytes: 0,
      usedBytes: 0,
      freeBytes: 0,
      full: false,
      stableSequence: this.store.stableSequence,
      chunkCount: 0,
      inventoryDigest: 0,
      zone: '',
      addresses: [],
      version: '',
      wireVersion: 1,
      highestEpoch: this.access.highestEpoch,
      bundleHash: '',
      time: undefined,
      certificateExpires: undefined,
      damaged: [],
      scrub: undefined,
      deadBytes: 0,
    };
  }
}

async function startWorld(): Promise<World> {
  const world = new World();
  await world.start();
  return world;
}

describe('coordinator link', () => {
  test('D10: a node registers and then reports at the interval that it was given', async () => {
    const world = await startWorld();
    const { connection } = await world.registration();
    assert.equal(world.link.registered, false);
    world.welcome(connection, { heartbeatIntervalMs: 500, scrubPeriodSeconds: 2_592_000 });
    await world.clock.until(() => world.link.registered, { withinMs: 100 });
    assert.equal(world.scrubPeriodSeconds, 2_592_000);
    // The beat that was under way still has the interval that nodes begin with.
    await world.clock.advance(2_000);
    const before = connection.messages.length;
    for (let i = 0; i < 10; i++) {
      world.welcome(connection, { heartbeatIntervalMs: 500 }, 'update');
      await world.clock.advance(500);
    }
    assert.ok(
      Math.abs(connection.messages.length - before - 10) <= 1,
      `${connection.messages.length - before} heartbeats in 5 s`,
    );
    assert.ok(connection.messages.slice(1).every(({ message }) => message?.$case === 'heartbeat'));
    await finish(world);
  });

  test('T6: a link that is closed for a new certificate is opened anew at once, and the node stays registered', async () => {
    const world = await startWorld();
    const { connection } = await world.registration();
    world.welcome(connection);
    await world.clock.until(() => world.link.registered);
    world.replaceLink();
    const { connection: second } = await world.registration();
    assert.notEqual(second, connection);
    assert.equal(world.link.registered, true);
    world.welcome(second);
    await finish(world);
  });

  test('M10: the coordinator is told of the room that a compaction gave back before it is told that it has ended', async () => {
    const world = await startWorld();
    const { connection } = await world.registration();
    world.welcome(connection);
    await world.clock.until(() => world.link.registered);
    const order = { $case: 'compact', value: { run: '1', withinMs: 2_000 } } as const;
    connection.link.send({ message: { $case: 'order', value: { number: 7, order } } });
    const isAnswered = (): boolean => connection.messages.some(({ message }) => message?.$case === 'answer');
    await world.clock.until(isAnswered, { withinMs: 1_000 });
    assert.deepEqual(
      connection.messages.map(({ message }) => message?.$case),
      ['register', 'heartbeat', 'answer'],
    );
    await finish(world);
  });

  test('D10: after the coordinator was away the node is known again within one heartbeat', async () => {
    const world = await startWorld();
    const { connection } = await world.registration();
    world.welcome(connection);
    await world.clock.until(() => world.link.registered);
    world.reachable = false;
    connection.link.close();
    await world.clock.until(() => !world.link.registered, { withinMs: 1000 });
    await world.clock.advance(60_000);
    assert.ok(world.dials > 20 && world.dials < 100, `${world.dials} tries in a minute`);
    world.reachable = true;
    const backMs = world.clock.elapsedMs;
    await world.clock.until(() => world.connections.length === 2 && world.connections[1]?.messages.length === 1);
    assert.ok(world.clock.elapsedMs - backMs <= HEARTBEAT_INTERVAL_MS, `${world.clock.elapsedMs - backMs} ms`);
    await finish(world);
  });

  test('a coordinator that says nothing for three heartbeats is given up, and asked again', async () => {
    const world = await startWorld();
    const { connection } = await world.registration();
    world.welcome(connection);
    await world.clock.until(() => world.link.registered);
    await world.clock.until(() => world.connections.length === 2, { withinMs: 12_000 });
    assert.equal(connection.closed, true);
    await finish(world);
  });

  test('M2a: an older coordinator is not followed, also after a restart of the node', async () => {
    const world = await startWorld();
    const { connection } = await world.registration();
    world.welcome(connection);
    await world.clock.until(() => world.link.registered);
    assert.deepEqual(world.access.highestEpoch, EPOCH);
    const again = await world.clock.finish(AccessControl.open(world.disk, world.clock));
    assert.deepEqual(again.highestEpoch, EPOCH);
    for (const older of [
      { generation: EPOCH.generation, start: 4 },
      { generation: EPOCH.generation - 1, start: 900 },
    ])
      await assert.rejects(world.clock.finish(again.welcome({ ...world.coordinator.welcome('one'), epoch: older })), {
        code: 'fenced',
      });
    world.welcome(connection, { epoch: { generation: EPOCH.generation, start: 4 } }, 'update');
    await world.clock.until(() => connection.closed, { withinMs: 1000 });
    assert.deepEqual(world.access.highestEpoch, EPOCH);
    await finish(world);
  });

  test('D3: the node says which of the chunks it has', async () => {
    const world = await startWorld();
    const { facts, frames } = scratchChunk(7, 100);
    await world.clock.finish(world.store.put(facts, frames));
    const { connection } = await world.registration();
    connection.link.send({
      message: {
        $case: 'askChunks',
        value: { question: 12, chunks: [scratchId(6), scratchId(7)].map(chunkIdToBytes) },
      },
    });
    await world.clock.until(() => connection.messages.length === 2, { withinMs: 1000 });
    assert.deepEqual(connection.messages[1]?.message, {
      $case: 'chunksHeld',
      value: { question: 12, held: [chunkIdToBytes(scratchId(7))] },
    });
    await finish(world);
  });

  test('D3: asked to make chunks stable, the node answers when it has synced, and heartbeats go on meanwhile', async () => {
    const world = await startWorld();
    const { facts, frames } = scratchChunk(7, 100);
    await world.clock.finish(world.store.put(facts, frames));
    const written = world.store.incarnation * 2 ** 32 + 1;
    assert.ok(world.store.stableSequence < written);
    const { connection } = await world.registration();
    world.welcome(connection, { heartbeatIntervalMs: 100 });
    await world.clock.until(() => world.link.registered);
    world.syncMs = 400;
    const asked = [scratchId(6), scratchId(7)].map(chunkIdToBytes);
    connection.link.send({ message: { $case: 'makeStable', value: { question: 12, chunks: asked } } });
    const answers = () =>
      connection.messages.flatMap(({ message }) => (message?.$case === 'chunksStable' ? [message] : []));
    await world.clock.advance(300);
    assert.deepEqual(answers(), []);
    connection.link.send({ message: { $case: 'askChunks', value: { question: 13, chunks: asked } } });
    await world.clock.until(() => connection.messages.some(({ message }) => message?.$case === 'chunksHeld'), {
      withinMs: 50,
    });
    await world.clock.until(() => answers().length === 1, { withinMs: 400 });
    const { disk, incarnation } = world.store;
    assert.deepEqual(answers()[0]?.value, {
      question: 12,
      disk,
      incarnation,
      stableSequence: written,
      held: [chunkIdToBytes(scratchId(7))],
    });
    // What it answered outlives the power.
    world.disk.powerLoss(new SeededRandom(3));
    const again = await world.clock.finish(
      FileChunkStore.open({
        disk: world.disk.again(),
        clock: world.clock,
        random: new SeededRandom(1),
        capacityBytes: 2 ** 30,
      }),
    );
    assert.equal(again.has(scratchId(7)), true);
    await world.clock.finish(again[Symbol.asyncDispose]());
    world.stop.abort();
    await world.clock.finish(world.ended);
  });

  test('D3: a node whose disk fails does not answer that chunks are stable', async () => {
    const world = await startWorld();
    const { connection } = await world.registration();
    const { facts, frames } = scratchChunk(7, 100);
    await world.clock.finish(world.store.put(facts, frames));
    world.disk.failNextSync();
    connection.link.send({
      message: { $case: 'makeStable', value: { question: 1, chunks: [chunkIdToBytes(scratchId(7))] } },
    });
    await world.clock.until(() => world.store.failed.aborted, { withinMs: 1_000 });
    await world.clock.advance(100);
    assert.ok(!connection.messages.some(({ message }) => message?.$case === 'chunksStable'));
    world.stop.abort();
    await world.clock.finish(world.ended);
  });

  test('a node that is refused says so to nobody but tries again, slowly', async () => {
    const world = await startWorld();
    const { connection } = await world.registration();
    connection.link.send({
      message: {
        $case: 'refused',
        value: { failure: { code: 'permission_denied', message: 'Register node one: not ours', details: {} } },
      },
    });
    await world.clock.until(() => world.connections.length === 2, { withinMs: 3_000 });
    assert.equal(connection.closed, true);
    assert.equal(world.link.registered, false);
    await finish(world);
  });

  test('D7: no token counts before the coordinator has told its keys', async () => {
    const world = await startWorld();
    const peer = { uri: 'spiffe://alice.home/user/ann', role: 'user', name: 'ann' };
    const token = world.coordinator.token(peer.uri);
    assert.throws(() => world.access.check(token, peer), { code: 'unavailable' });
    const { connection } = await world.registration();
    world.welcome(connection);
    await world.clock.until(() => world.link.registered);
    assert.equal(world.access.check(token, peer).subject, peer.uri);
    await finish(world);
  });
});

async function finish(world: World): Promise<void> {
  world.stop.abort();
  await world.clock.finish(world.ended);
  await world.clock.finish(world.store[Symbol.asyncDispose]());
}
