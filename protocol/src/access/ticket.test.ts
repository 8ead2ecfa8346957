import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { parseChunkId } from '@collective/base/ids';
import { isGenuineTicket, makeTicket } from './ticket.ts';

const key = Buffer.alloc(32, 0x11);
const otherKey = Buffer.alloc(32, 0x12);
const facts = { chunk: parseChunkId('6926a3c0000000030000000000000064'), session: 7, expiresSeconds: 1_764_000_300 };

test('D7: a ticket is the first half of an HMAC over chunk, session and expiry', () => {
  const message = [
    '6926a3c0000000030000000000000064', // chunk
    '0000000000000007', // session
    '000000006924822c', // expiry, Unix seconds
  ].join('');
  const expected = createHmac('sha256', key).update(Buffer.from(message, 'hex')).digest().subarray(0, 16);
  assert.deepEqual(makeTicket(key, facts), expected);
  assert.equal(makeTicket(key, facts).length, 16);
});

const wrong = [
  { name: 'another chunk', facts: { ...facts, chunk: parseChunkId('6926a3c0000000030000000000000065') } },
  { name: 'another session', facts: { ...facts, session: 8 } },
  { name: 'a later expiry', facts: { ...facts, expiresSeconds: facts.expiresSeconds + 1 } },
];

for (const { name, facts: claimed } of wrong) {
  test(`D7: a ticket does not open ${name}`, () => {
    assert.equal(isGenuineTicket([key], claimed, makeTicket(key, facts)), false);
  });
}

test('D7: a ticket of another node is refused, one of the previous key is taken', () => {
  const ticket = makeTicket(key, facts);
  assert.equal(isGenuineTicket([otherKey], facts, ticket), false);
  assert.equal(isGenuineTicket([otherKey, key], facts, ticket), true);
  assert.equal(isGenuineTicket([], facts, ticket), false);
  // A node without a previous key has an empty one: it must not verify anything.
  assert.equal(isGenuineTicket([Buffer.alloc(0)], facts, makeTicket(Buffer.alloc(0), facts)), false);
});

test('D7: a ticket cut anywhere or with any bit changed is refused', () => {
  const ticket = makeTicket(key, facts);
  for (let i = 0; i < ticket.length; i++) {
    assert.equal(isGenuineTicket([key], facts, ticket.subarray(0, i)), false);
    const changed = Buffer.from(ticket);
    changed[i] = (changed[i] ?? 0) ^ 1;
    assert.equal(isGenuineTicket([key], facts, changed), false);
  }
});
