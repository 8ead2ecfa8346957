/** What planners and clients are told of nodes: who is lost, who takes chunks (D8, D10). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import type { NodeName } from '@collective/base/ids';
import { NODE_AWAY_AFTER_MS, WIRE_VERSION } from '@collective/base/limits';
import { NodeState } from '@collective/protocol/gen/common';
import type { NodeReport } from '@collective/protocol/gen/node';
import { EngineWorld } from '../engine/engine-world.ts';
import type { Duty, PicturedNode } from '../placement/node-picture.ts';
import { NodeTable } from './node-table.ts';

const NODE = 'n1' as NodeName;
const OTHER = 'n2' as NodeName;
const GiB = 1024 ** 3;
const REPAIR_AFTER_SECONDS = 60;

interface World {
  readonly nodes: NodeTable;
  report(name: NodeName, facts?: Partial<NodeReport>): Promise<void>;
  setDuty(name: NodeName, duty: Duty): Promise<void>;
  advance(ms: number): Promise<void>;
  pictured(name: NodeName): PicturedNode | undefined;
  restart(): Promise<World>;
}

async function open(lives = new EngineWorld()): Promise<World> {
  const { clock } = lives;
  const { engine } = await lives.start();
  const events = { diskLost: () => undefined, nodeCame: () => undefined, nodeWentAway: () => undefined };
  const nodes = await clock.finish(NodeTable.load({ clock, engine, events }));
  return {
    nodes,
    report: (name, facts = {}) => clock.finish(nodes.reported(name, report(facts))),
    setDuty: (name, duty) => clock.finish(nodes.setDuty(name, duty)),
    advance: (ms) => clock.advance(ms),
    pictured: (name) => nodes.picture(REPAIR_AFTER_SECONDS).get(name),
    restart: async () => {
      await clock.finish(engine.close());
      return await open(lives);
    },
  };
}

test('D8: a node is away after five seconds, lost after the set time, and neither once it is heard again', async () => {
  const world = await open();
  await world.report(NODE);
  assert.deepEqual([world.pictured(NODE)?.heard, world.pictured(NODE)?.awayForMs], ['ready', 0]);
  await world.advance(NODE_AWAY_AFTER_MS);
  assert.deepEqual([world.pictured(NODE)?.heard, world.pictured(NODE)?.lost], ['away', false]);
  await world.advance(REPAIR_AFTER_SECONDS * 1000 - NODE_AWAY_AFTER_MS - 100);
  assert.equal(world.pictured(NODE)?.lost, false);
  await world.advance(100);
  assert.equal(world.pictured(NODE)?.lost, true);
  await world.report(NODE);
  assert.deepEqual([world.pictured(NODE)?.heard, world.pictured(NODE)?.lost], ['ready', false]);
});

test('D8: after a restart the time of a node counts from the start, not from a heartbeat that the old process heard', async () => {
  const world = await open();
  await world.report(NODE);
  await world.advance(3_600_000);
  const restarted = await world.restart();
  await restarted.advance(REPAIR_AFTER_SECONDS * 1000 - 10);
  assert.equal(restarted.pictured(NODE)?.lost, false);
  await restarted.advance(10);
  assert.equal(restarted.pictured(NODE)?.lost, true);
});

test('D8: the time in which the coordinator itself did not run makes no node lost', async () => {
  const world = await open();
  await world.report(NODE);
  await world.advance(3_600_000);
  world.nodes.wasDeaf();
  assert.deepEqual([world.pictured(NODE)?.heard, world.pictured(NODE)?.lost], ['away', false]);
  await world.advance(REPAIR_AFTER_SECONDS * 1000);
  assert.equal(world.pictured(NODE)?.lost, true);
});

test('the room for something new is that of nodes which are there, full ones among them: one that is away is no lack of room', async () => {
  const world = await open();
  await world.report(NODE);
  await world.report(OTHER);
  const { capacityBytes } = world.nodes.roomForNew();
  assert.equal(capacityBytes, world.nodes.space().capacityBytes);
  const restarted = await world.restart();
  assert.equal(restarted.nodes.roomForNew().capacityBytes, 0, 'nobody was heard yet');
  await restarted.report(OTHER, { full: true, freeBytes: 0 });
  const { freeBytes, capacityBytes: there } = restarted.nodes.roomForNew();
  assert.deepEqual([freeBytes, there], [0, capacityBytes / 2]);
});

test('D8: a cordoned or draining node takes no new chunks, gives no room, and serves what it has; also after a restart', async () => {
  const world = await open();
  await world.report(NODE);
  await world.report(OTHER);
  for (const duty of ['cordoned', 'draining'] as const) {
    await world.setDuty(NODE, duty);
    await world.report(NODE);
    assert.equal(world.pictured(NODE)?.duty, duty);
    assert.deepEqual(
      world.nodes.candidates().map(({ name }) => name),
      [OTHER],
    );
    assert.equal(world.nodes.space().freeBytes, 5 * GiB);
    assert.equal(world.nodes.roomForNew().freeBytes, 5 * GiB);
    assert.deepEqual(
      world.nodes.routes('internal').map(({ name, state }) => [name, state]),
      [
        [NODE, NodeState.CLOSED],
        [OTHER, NodeState.READY],
      ],
    );
    assert.equal(world.nodes.status()[0]?.state, NodeState.READY, 'it is well');
  }
  const restarted = await world.restart();
  assert.equal(restarted.pictured(NODE)?.duty, 'draining');
  await restarted.setDuty(NODE, 'active');
  await restarted.report(NODE);
  assert.deepEqual(restarted.nodes.candidates().length, 1);
});

test('D8: a change of duty at the moment of a heartbeat is not overwritten by it', async () => {
  const world = await open();
  await world.report(NODE);
  await world.advance(120_000);
  await Promise.all([world.report(NODE, { incarnation: 2 }), world.setDuty(NODE, 'draining')]);
  const restarted = await world.restart();
  assert.deepEqual([restarted.pictured(NODE)?.duty, restarted.pictured(NODE)?.incarnation], ['draining', 2]);
});

test('the duty of a node that is not there cannot be set', async () => {
  const world = await open();
  await assert.rejects(
    world.nodes.setDuty(NODE, 'cordoned'),
    (error) => error instanceof CollectiveError && error.code === 'not_found',
  );
});

function report(facts: Partial<NodeReport>): NodeReport {
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
    addresses: [{ listener: 'internal', host: '10.0.0.1', port: 7431 }],
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
