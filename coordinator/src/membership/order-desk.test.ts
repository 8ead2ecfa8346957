import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import type { CoordinatorMessage } from '@collective/protocol/gen/node';
import { ORDERS_PER_NODE_MAX, OrderDesk } from './order-desk.ts';

function open() {
  const clock = new FakeClock();
  const sent: string[] = [];
  const desk = new OrderDesk(clock, ({ message }: CoordinatorMessage) => {
    assert.ok(message?.$case === 'order');
    sent.push(`${message.value.number} ${message.value.order?.$case}`);
  });
  const caller = new AbortController();
  const give = () =>
    desk.give('Scrub on node n1', { $case: 'scrub', value: {} }, { withinMs: 1_000, signal: caller.signal });
  return { clock, sent, desk, caller, give };
}

const failing = (code: string, message: RegExp) => (error: unknown) =>
  (error as CollectiveError).code === code && message.test((error as CollectiveError).message);

test('D8: answers find their order, in whatever order they come; a late or foreign one is dropped', async () => {
  const { sent, desk, give } = open();
  const [first, second] = [give(), give()];
  desk.answered({ number: 2, answer: { $case: 'failure', value: { code: 'no_space', message: 'Full', details: {} } } });
  desk.answered({ number: 1, answer: { $case: 'done', value: {} } });
  desk.answered({ number: 1, answer: { $case: 'done', value: {} } });
  desk.answered({ number: 9, answer: { $case: 'done', value: {} } });
  assert.equal((await first).$case, 'done');
  await assert.rejects(second, failing('no_space', /Full/));
  assert.deepEqual(sent, ['1 scrub', '2 scrub']);
});

test('D8: an order that is not answered in time fails, and the node is told to stop', async () => {
  const { clock, sent, give } = open();
  const order = give();
  await Promise.all([assert.rejects(order, failing('unavailable', /no answer within 1000 ms/)), clock.advance(1_000)]);
  assert.deepEqual(sent, ['1 scrub', '1 cancel']);
});

test('D8: who gave an order may give it up', async () => {
  const { sent, caller, give } = open();
  const order = give();
  caller.abort(new Error('enough'));
  await assert.rejects(order, /enough/);
  assert.deepEqual(sent, ['1 scrub', '1 cancel']);
  await assert.rejects(give(), /enough/);
  assert.equal(sent.length, 2);
});

test('D8: the end of the link fails all orders, and an older node that knows no such order is told as unavailable', async () => {
  const { desk, give } = open();
  const unknown = give();
  desk.answered({ number: 1, answer: undefined });
  await assert.rejects(unknown, failing('unavailable', /does not know this order/));
  const orders = [give(), give()];
  desk.linkEnded();
  for (const order of orders) await assert.rejects(order, failing('unavailable', /link ended/));
});

test(`D8: a node has at most ${ORDERS_PER_NODE_MAX} orders at once`, async () => {
  const { desk, give } = open();
  const orders = Array.from({ length: ORDERS_PER_NODE_MAX }, () => give());
  await assert.rejects(give(), failing('overloaded', /has 64 orders/));
  desk.linkEnded();
  await Promise.allSettled(orders);
});
