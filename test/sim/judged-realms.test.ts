import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Action } from './actions.ts';
import { type Look, type SeenRealm, whyNotApart, whyNotRefuse, whyNotTogether, whyNotWithin } from './judged-realms.ts';

function realm(path: string, more: Partial<SeenRealm> = {}): SeenRealm {
  const nothing = { quotaBytes: 0, quotaInodes: 0, usedBytes: 0, usedInodes: 1, grantedBytes: 0 };
  return { path, settled: true, moving: [], ...nothing, ...more };
}

function looks(...realms: SeenRealm[][]): Look[] {
  return realms.map((seen, i) => ({ atMs: i, realms: seen }));
}

const store: Action = { do: 'store', path: '/s0/f0', bytes: Buffer.alloc(100), replace: true };
const append: Action = { do: 'append', handle: 'h', bytes: Buffer.alloc(100) };
const rename: Action = { do: 'rename', from: '/s0/f0', to: '/s1/f0', mode: 'replace' };

test('M10: a realm that grows beyond its quota is told; one that was over it already may shrink and stay', () => {
  for (const [quota, used] of [
    ['quotaBytes', 'usedBytes'],
    ['quotaInodes', 'usedInodes'],
  ] as const) {
    const at = (amount: number): SeenRealm[] => [realm('/', { [quota]: 10, [used]: amount })];
    assert.equal(whyNotWithin(at(9), at(10)), undefined);
    assert.match(whyNotWithin(at(9), at(11)) ?? '', /realm \/ uses 11 .* of its quota of 10/);
    assert.match(whyNotWithin(at(12), at(13)) ?? '', /uses 13/);
    assert.equal(whyNotWithin(at(12), at(12)), undefined);
    assert.equal(whyNotWithin(at(13), at(12)), undefined);
  }
});

test('M9: a quota that comes later than what is used takes nothing away, and nothing may be added', () => {
  const full = realm('/s0', { quotaInodes: 5, usedInodes: 9 });
  assert.equal(whyNotWithin([realm('/s0', { usedInodes: 9 })], [full]), undefined);
  assert.equal(whyNotWithin([realm('/', { quotaInodes: 5, usedInodes: 2 })], [realm('/'), full]), undefined);
  assert.match(whyNotWithin([full], [{ ...full, usedInodes: 10 }]) ?? '', /uses 10/);
});

test('M10: a refusal for want of room is right where a realm was full, for what was asked, at some time meanwhile', () => {
  const free = [realm('/', { quotaBytes: 1_000, quotaInodes: 5, usedBytes: 800, usedInodes: 4 })];
  const fullOfInodes = [realm('/', { quotaInodes: 5, usedInodes: 5 })];
  const granted = [realm('/', { quotaBytes: 1_000, usedBytes: 800, grantedBytes: 101 })];
  assert.match(whyNotRefuse(looks(free, free), store) ?? '', /no realm was full/);
  assert.equal(whyNotRefuse(looks(free, fullOfInodes, free), store), undefined);
  assert.match(whyNotRefuse(looks(fullOfInodes), append) ?? '', /no realm was full/, 'a write makes no inode');
  assert.equal(whyNotRefuse(looks(granted), append), undefined);
});

test('M9: a rename over a border that stood all the while is told, and a refusal where none was', () => {
  const border = [realm('/'), realm('/s0')];
  const drawn = [realm('/', { moving: ['/s0'] }), realm('/s0', { settled: false })];
  const none = [realm('/')];
  assert.match(whyNotTogether(looks(border, border), rename) ?? '', /border of realm \/s0 stood/);
  for (const meanwhile of [drawn, none]) assert.equal(whyNotTogether(looks(border, meanwhile), rename), undefined);
  assert.equal(whyNotApart(looks(none, border), rename), undefined);
  assert.equal(whyNotApart(looks(none, drawn), rename), undefined);
  assert.match(whyNotApart(looks(none, none), rename) ?? '', /no border was between/);
  const within: Action = { ...rename, to: '/s0/f1' };
  assert.match(whyNotApart(looks(border), within) ?? '', /no border was between/);
  assert.equal(whyNotTogether(looks(border), within), undefined);
});
