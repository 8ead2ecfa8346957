import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { holdSignalsByTheirSources } from './run-signals.ts';
import { simulate } from './simulation.ts';

test('a signal of several sources is aborted by the first that is, with its reason, as those of Node are', () => {
  for (const ours of [false, true]) {
    using _ = ours ? holdSignalsByTheirSources() : undefined;
    const [a, b] = [new AbortController(), new AbortController()];
    const both = AbortSignal.any([a.signal, b.signal]);
    const heard: unknown[] = [];
    both.addEventListener('abort', () => heard.push(both.reason));
    assert.equal(both.aborted, false);
    b.abort('b');
    a.abort('a');
    assert.deepEqual([both.aborted, both.reason, heard], [true, 'b', ['b']]);
    const late = AbortSignal.any([both, new AbortController().signal]);
    assert.deepEqual([late.aborted, late.reason], [true, 'b']);
  }
});

test('what a run has needed is let go of when it is over', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const usedBytes = (): number => {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  for (let seed = 1; seed <= 4; seed++) await simulate({ seed, steps: 60 });
  const before = usedBytes();
  const runs = 6;
  for (let seed = 5; seed < 5 + runs; seed++) await simulate({ seed, steps: 60 });
  const perRun = (usedBytes() - before) / runs;
  // It was 4 MB, and programs that are compiled meanwhile are some of what is left.
  assert.ok(perRun < 2_000_000, `${Math.round(perRun)} bytes a run`);
});
