import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import type { NodeName } from '@collective/base/ids';
import { CompactionJob, SILENT_AFTER_MS, STALLED_AFTER_MS } from './compaction.ts';
import type { CompactionState } from './node-orders.ts';
import { ScriptedOrders } from './scripted-orders.ts';

const HOUR_MS = 3_600_000;

class Scene {
  readonly clock = new FakeClock();
  readonly orders = new ScriptedOrders(this.clock);
  /** Nodes of the member that are not there. */
  readonly away = new Set<string>();
  readonly progress: [number, number | undefined][] = [];
  readonly job = new CompactionJob({
    clock: this.clock,
    epoch: { generation: 1_800_000_000, start: 3 },
    orders: this.orders,
    nodes: () =>
      [...this.orders.nodes.keys()].map((node) => ({ node: node as NodeName, isThere: !this.away.has(node) })),
  });

  constructor(...nodes: readonly string[]) {
    for (const node of nodes) this.orders.add(node);
  }

  round(signal = new AbortController().signal): Promise<void> {
    const progress = (done: number, total: number | undefined): void => void this.progress.push([done, total]);
    return this.clock.finish(this.job.work({ signal, progress }), { withinMs: 10 * HOUR_MS });
  }

  get outcomes(): string[] {
    return this.job.nodes.map(({ node, state, reason }) => `${node} ${state}${reason === '' ? '' : `: ${reason}`}`);
  }
}

function working(...states: readonly Partial<CompactionState>[]): Partial<CompactionState>[] {
  return states.map((state) => ({ done: false, ...state }));
}

test('D8: all nodes that are there compact when somebody asks, whatever they were told to forget', async () => {
  const scene = new Scene('n1', 'n2');
  await scene.round();
  assert.deepEqual(scene.orders.record, [], 'nobody has asked');
  scene.job.ask(1);
  await scene.round();
  assert.deepEqual(scene.orders.record.toSorted(), ['compact n1 0', 'compact n2 0']);
  assert.deepEqual(scene.outcomes, ['n1 done', 'n2 done']);
  assert.equal(scene.job.finished, 1);
  await scene.round();
  assert.equal(scene.orders.record.length, 2, 'once for a request');
});

test('D8: a compaction that takes hours is waited for as long as it gets on, and says how far it is', async () => {
  const scene = new Scene('n1');
  scene.orders.takesMs = STALLED_AFTER_MS / 2;
  const states = Array.from({ length: 100 }, (_unused, i) => ({ deadBytes: 1_000 - 10 * i, copiedBytes: i }));
  scene.orders.node('n1').compactions.push(...working(...states));
  scene.job.ask(1);
  await scene.round();
  assert.ok(scene.clock.bootMs() > 2 * HOUR_MS);
  assert.deepEqual(scene.outcomes, ['n1 done']);
  assert.deepEqual(scene.progress.slice(0, 2), [
    [0, 1_000],
    [10, 1_000],
  ]);
  assert.deepEqual(scene.progress.at(-1), [1_000, 1_000]);
});

test('D8: who did not finish is named, with why and what to do; the others are done', async () => {
  const scene = new Scene('n1', 'n2', 'n3', 'n4', 'n5');
  scene.away.add('n2');
  scene.orders.node('n3').refuses = 'no_space';
  scene.orders.node('n4').compactions.push({ deadBytes: 7, stuckSegments: 2 });
  scene.orders.node('n5').compactions.push(...working(...Array(200).fill({ deadBytes: 9, copiedBytes: 5 })));
  scene.orders.takesMs = 2_000;
  scene.job.ask(1);
  await scene.round();
  assert.deepEqual(scene.outcomes, [
    'n1 done',
    'n2 unfinished: it is away; collect again when it is back',
    'n3 unfinished: compact on node n3',
    'n4 unfinished: 2 segments hold chunks with a damaged header; collect again when that is repaired: collective nodes scrub n4',
    'n5 unfinished: it gets nowhere; look at its log, and collect again',
  ]);
  assert.equal(scene.job.finished, 1);
  assert.deepEqual(scene.job.nodes.find(({ node }) => node === 'n5')?.deadBytes, 9);
  assert.ok(!scene.orders.record.includes('compact n2 0'));
});

test('D8: a node that restarts meanwhile is asked again, one that stays away is given up', async () => {
  const scene = new Scene('n1', 'n2');
  for (const name of ['n1', 'n2']) scene.orders.node(name).compactions.push(...working({ deadBytes: 5 }));
  const isGone = new Set<string>();
  scene.orders.onOrder = (_order, name) => {
    if (isGone.has(name)) return;
    isGone.add(name);
    scene.orders.node(name).isUp = false;
    if (name === 'n1')
      scene.clock.setTimer(SILENT_AFTER_MS - 5_000, () => {
        scene.orders.node(name).isUp = true;
      });
  };
  scene.job.ask(1);
  await scene.round();
  assert.deepEqual(scene.outcomes, [
    'n1 done',
    'n2 unfinished: compact on node n2: it is not connected; collect again when it is back',
  ]);
});

test('D8: what is asked for while a compaction is under way is done by the next', async () => {
  const scene = new Scene('n1');
  scene.job.ask(1);
  scene.orders.onOrder = () => scene.job.ask(2);
  await scene.round();
  assert.equal(scene.job.finished, 1);
  await scene.round();
  assert.equal(scene.job.finished, 2);
  assert.equal(scene.orders.record.length, 2);
});

test('a compaction that the end of the process cuts off is not finished', async () => {
  const scene = new Scene('n1');
  const stop = new AbortController();
  scene.orders.node('n1').refuses = 'unavailable';
  scene.job.ask(1);
  scene.clock.setTimer(5_000, () => stop.abort(new CollectiveError('shutting_down', 'Stop')));
  await assert.rejects(scene.round(stop.signal));
  assert.equal(scene.job.finished, 0);
});
