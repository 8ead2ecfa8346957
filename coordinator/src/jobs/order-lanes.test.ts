import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeName } from '@collective/base/ids';
import { type LaneOptions, OrderLanes } from './order-lanes.ts';

interface Task {
  readonly bytes: number;
  readonly name: string;
}

interface Given {
  readonly node: string;
  readonly names: readonly string[];
  end(results?: readonly string[]): void;
  fail(error: Error): void;
}

function open(limits: Partial<LaneOptions<Task, string>> = {}): { lanes: OrderLanes<Task, string>; given: Given[] } {
  const given: Given[] = [];
  const lanes = new OrderLanes<Task, string>({
    perNodeMax: 1,
    inAllMax: 2,
    tasksPerOrderMax: 3,
    bytesPerOrderMax: () => 100,
    order: (node, tasks) => {
      const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
      const names = tasks.map(({ name }) => name);
      given.push({
        node,
        names,
        end: (results = names.map((name) => `${name} done`)) => resolve(results),
        fail: reject,
      });
      return promise;
    },
    ...limits,
  });
  return { lanes, given };
}

const on = (node: string): NodeName => node as NodeName;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const shown = (given: readonly Given[]): string[] => given.map(({ node, names }) => `${node} ${names.join('')}`);

test('tasks for one node go together, in their order, by count and by bytes', async () => {
  const { lanes, given } = open();
  const results = [...'abcd'].map((name) => lanes.add(on('n1'), { name, bytes: 10 }));
  const large = ['e', 'f'].map((name) => lanes.add(on('n1'), { name, bytes: 90 }));
  await turn();
  assert.deepEqual(shown(given), ['n1 abc'], 'one order at a time');
  given[0]?.end();
  assert.deepEqual(await Promise.all(results.slice(0, 3)), ['a done', 'b done', 'c done']);
  await turn();
  given[1]?.end();
  await turn();
  given[2]?.end();
  await Promise.all(large);
  assert.deepEqual(shown(given), ['n1 abc', 'n1 de', 'n1 f']);
});

test('a task that is larger than an order may be goes alone', async () => {
  const { lanes, given } = open();
  void lanes.add(on('n1'), { name: 'a', bytes: 1_000 });
  void lanes.add(on('n1'), { name: 'b', bytes: 1 });
  await turn();
  assert.deepEqual(shown(given), ['n1 a']);
});

test('nodes take turns within the bound over all, and a slow one holds up only itself', async () => {
  const { lanes, given } = open({ tasksPerOrderMax: 1 });
  for (const node of ['n1', 'n2', 'n3']) for (const name of 'ab') void lanes.add(on(node), { name, bytes: 1 });
  await turn();
  assert.deepEqual(shown(given), ['n1 a', 'n2 a']);
  given[1]?.end();
  await turn();
  given[2]?.end();
  await turn();
  given[3]?.end();
  await turn();
  assert.deepEqual(shown(given), ['n1 a', 'n2 a', 'n3 a', 'n2 b', 'n3 b']);
});

test('an order that fails fails its own tasks, and the next goes', async () => {
  const { lanes, given } = open({ tasksPerOrderMax: 1 });
  const first = lanes.add(on('n1'), { name: 'a', bytes: 1 });
  const second = lanes.add(on('n1'), { name: 'b', bytes: 1 });
  await turn();
  given[0]?.fail(new Error('no link'));
  await assert.rejects(first, /no link/);
  await turn();
  given[1]?.end();
  assert.equal(await second, 'b done');
});

test('a task without a result fails and does not wait for ever', async () => {
  const { lanes, given } = open();
  const [first, second] = ['a', 'b'].map((name) => lanes.add(on('n1'), { name, bytes: 1 }));
  await turn();
  given[0]?.end(['a done']);
  assert.equal(await first, 'a done');
  await assert.rejects(second as Promise<string>, /answered 1 of 2/);
});
