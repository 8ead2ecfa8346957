import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { CallRate, networkOf } from './call-rate.ts';

const world = () => {
  const clock = new FakeClock();
  return { clock, rate: new CallRate({ clock, burst: 3, perSecond: 2, networksMax: 4 }) };
};

/** How many calls in a row are allowed. */
function allowed(rate: CallRate, address: string): number {
  let count = 0;
  while (count < 100 && rate.allows(address)) count++;
  return count;
}

test('T3: a network may call its burst at once, then at the rate, and never saves up more than the burst', async () => {
  const { clock, rate } = world();
  assert.equal(allowed(rate, '192.0.2.1'), 3);
  await clock.advance(499);
  assert.equal(allowed(rate, '192.0.2.1'), 0);
  await clock.advance(1);
  assert.equal(allowed(rate, '192.0.2.1'), 1);
  await clock.advance(1_000);
  assert.equal(allowed(rate, '192.0.2.1'), 2);
  await clock.advance(3_600_000);
  assert.equal(allowed(rate, '192.0.2.1'), 3);
});

test('T3: one network does not take from another', () => {
  const { rate } = world();
  assert.equal(allowed(rate, '192.0.2.1'), 3);
  assert.equal(allowed(rate, '192.0.2.2'), 3);
  assert.equal(allowed(rate, '2001:db8:0:1::1'), 3);
  assert.equal(allowed(rate, '2001:db8:0:1:ffff::2'), 0, 'another address of the same machine');
});

test('T3: the bound of networks forgets the one that was not heard of for the longest time', () => {
  const { rate } = world();
  for (const last of [1, 2, 3, 4]) assert.equal(allowed(rate, `192.0.2.${last}`), 3);
  assert.equal(allowed(rate, '192.0.2.1'), 0, 'used again');
  assert.equal(allowed(rate, '192.0.2.5'), 3);
  assert.equal(allowed(rate, '192.0.2.1'), 0, 'still known');
  assert.equal(allowed(rate, '192.0.2.2'), 3, 'forgotten');
});

for (const [address, network] of [
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:192.0.2.1', '192.0.2.1'],
  ['::1', '0:0:0:0::/64'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:DB8::1', '2001:db8:0:0::/64'],
  ['fe80::1:2:3:4:5', 'fe80:0:0:1::/64'],
  ['', ''],
] as const) {
  test(`'${address}' is of the network '${network}'`, () => assert.equal(networkOf(address), network));
}
