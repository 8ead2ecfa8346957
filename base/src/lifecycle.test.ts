import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { test } from 'node:test';
import { CollectiveError } from './errors/index.ts';
import { SERVER_EXIT, serve } from './lifecycle.ts';
import { silentLog } from './log.ts';
import { SystemClock } from './system-clock.ts';

/**
 * A real process that serves, with `parts` as the body of its start function; it prints `started` and `disposed`. Its boot
 * time is `laterMs`, which stands still unless a part moves it.
 */
function serverProcess(parts: string, stopWithinMs = 20_000): ChildProcessByStdio<null, Readable, Readable> {
  const program = `
    import { serve } from ${JSON.stringify(new URL('./lifecycle.ts', import.meta.url).href)};
    import { createLog } from ${JSON.stringify(new URL('./log.ts', import.meta.url).href)};
    import { SystemClock } from ${JSON.stringify(new URL('./system-clock.ts', import.meta.url).href)};
    let laterMs = 0;
    class StillClock extends SystemClock { bootMs() { return laterMs; } }
    const keepAlive = setInterval(() => {}, 1000);
    process.exitCode = await serve({
      log: createLog({ program: 'test' }), clock: new StillClock(), stopWithinMs: ${stopWithinMs},
      start: async (stopping) => { ${parts} },
    });
    clearInterval(keepAlive);`;
  return spawn(process.execPath, ['--input-type=module-typescript', '-e', program], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

const PARTS = `console.log('started'); return { async [Symbol.asyncDispose]() { console.log('disposed'); } };`;

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

async function outcomeOf(
  child: ChildProcessByStdio<null, Readable, Readable>,
  onStarted: () => void,
): Promise<Outcome> {
  let out = '';
  let err = '';
  child.stderr.on('data', (bytes: Buffer) => {
    err += bytes.toString();
  });
  child.stdout.on('data', (bytes: Buffer) => {
    const before = out;
    out += bytes.toString();
    if (!before.includes('started') && out.includes('started')) onStarted();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out, err };
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} stops the parts in order and ends the process with 0`, async () => {
    const child = serverProcess(PARTS);
    const { code, out } = await outcomeOf(child, () => child.kill(signal));
    assert.equal(code, SERVER_EXIT.stopped);
    assert.equal(out, 'started\ndisposed\n');
  });
}

test('a stop that hangs is ended by force at its deadline, and the log says so', async () => {
  const child = serverProcess(
    `console.log('started'); return { [Symbol.asyncDispose]: () => new Promise(() => {}) };`,
    300,
  );
  const { code, err } = await outcomeOf(child, () => child.kill('SIGTERM'));
  assert.equal(code, SERVER_EXIT.stopTimedOut);
  assert.match(err, /stop took too long/);
});

test('a start that takes too long to notice the request to stop is ended by force at the same deadline', async () => {
  const child = serverProcess(`console.log('started'); return await new Promise(() => {});`, 300);
  const { code, err } = await outcomeOf(child, () => child.kill('SIGTERM'));
  assert.equal(code, SERVER_EXIT.stopTimedOut);
  assert.match(err, /stop took too long/);
});

test('a part that has no room ends the process with the code of that', async () => {
  const child = serverProcess(`
    console.log('started');
    const failed = import(${JSON.stringify(new URL('./errors/index.ts', import.meta.url).href)})
      .then(({ CollectiveError }) => new CollectiveError('no_space', 'Write the log'));
    return { failed, async [Symbol.asyncDispose]() {} };`);
  const { code, err } = await outcomeOf(child, () => undefined);
  assert.equal(code, 6);
  assert.match(err, /Write the log/);
});

test('a signal that comes twice at once is one wish, asked again later it ends a hanging stop', async () => {
  const child = serverProcess(
    `console.log('started');
    process.on('SIGTERM', () => console.log('asked'));
    process.on('SIGUSR2', () => { laterMs += 301; console.log('later'); });
    return { [Symbol.asyncDispose]: () => new Promise(() => {}) };`,
  );
  let heard = '';
  child.stdout.on('data', (bytes: Buffer) => {
    heard += bytes.toString();
  });
  const says = async (words: string): Promise<void> => {
    while (!heard.endsWith(words)) await once(child.stdout, 'data');
  };
  const ended = once(child, 'exit') as Promise<[number | null]>;
  await says('started\n');
  child.kill('SIGTERM');
  await says('asked\n');
  child.kill('SIGTERM');
  // Our listener is called after the one under test: had that ended the process, nothing would be said.
  await says('asked\nasked\n');
  child.kill('SIGUSR2');
  await says('later\n');
  child.kill('SIGTERM');
  assert.equal((await ended)[0], 128 + 15);
});

test('a part that cannot go on ends the process with the code that asks for a new start', async () => {
  const child = serverProcess(`
    console.log('started');
    const failed = import(${JSON.stringify(new URL('./errors/index.ts', import.meta.url).href)})
      .then(({ CollectiveError }) => new CollectiveError('disk_failed', 'Sync segment 7'));
    return { failed, async [Symbol.asyncDispose]() { console.log('disposed'); } };`);
  const { code, out, err } = await outcomeOf(child, () => undefined);
  assert.equal(code, SERVER_EXIT.failed);
  assert.equal(out, 'started\ndisposed\n');
  assert.match(err, /Sync segment 7/);
});

test('an exception that nobody caught is logged and ends the process as crashed', async () => {
  const child = serverProcess(`
    console.log('started'); setTimeout(() => { throw new TypeError('broken'); }, 1); return new AsyncDisposableStack();`);
  const { code, err } = await outcomeOf(child, () => undefined);
  assert.equal(code, SERVER_EXIT.crashed);
  assert.match(err, /"event":"defect"/);
});

test('what the start throws reaches the caller, and the end of the supervisor asks for a stop', async () => {
  const clock = new SystemClock();
  const failing = serve({
    log: silentLog,
    clock,
    stopWithinMs: 100,
    start: () => Promise.reject(new CollectiveError('address_in_use', 'Listen on port 1')),
  });
  await assert.rejects(failing, { code: 'address_in_use' });
  const gone = AbortSignal.abort('the end of its parent');
  let sawStopping = false;
  const code = await serve({
    log: silentLog,
    clock,
    stopWithinMs: 100,
    stopOn: gone,
    start: async (stopping) => {
      sawStopping = stopping.aborted;
      return new AsyncDisposableStack();
    },
  });
  assert.equal(code, SERVER_EXIT.stopped);
  assert.equal(sawStopping, true);
});
