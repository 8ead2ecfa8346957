import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runTestFile } from './test-file-run.ts';

const DEADLINE_MS = 30_000;
// A fixture that hangs does so long enough to be caught, and not for ever should this file itself be killed.
const HANG_MS = 60_000;
// Of a file that shall be seen to do something before it is killed: also a slow machine has started Node by then.
const CUT_SHORT_MS = 15_000;

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'test-file-run-'));
});
after(() => rmSync(folder, { recursive: true }));

async function run(text: string, options: { deadlineMs?: number; namePattern?: string } = {}) {
  const path = join(mkdtempSync(join(folder, 'run-')), 'fixture.test.ts');
  writeFileSync(path, `import assert from 'node:assert/strict';\nimport { describe, test } from 'node:test';\n${text}`);
  return await runTestFile(path, { deadlineMs: DEADLINE_MS, ...options });
}

test('a test file is counted by its tests, with suites and parents not counted twice', async () => {
  const outcome = await run(`
    describe('suite', () => {
      test('good', () => {});
      test('bad', () => assert.equal('left', 'right'));
    });
    test('parent', async (t) => {
      await t.test('good child', () => {});
      await t.test('bad child', () => { throw new Error('broken child', { cause: new Error('the reason') }); });
    });
    test('absent', { skip: process.pid > 0 ? 'nothing to try it on' : false }, () => {});
  `);
  assert.equal(outcome.passed, 2);
  assert.deepEqual(
    outcome.failures.map(({ title }) => title),
    ['suite > bad', 'parent > bad child'],
  );
  assert.match(outcome.failures[0]?.detail ?? '', /fixture\.test\.ts:\d+\n[\s\S]*left[\s\S]*right/);
  assert.match(outcome.failures[1]?.detail ?? '', /broken child[\s\S]*the reason/);
  assert.deepEqual(
    outcome.skips.map(({ title, reason }) => [title, reason]),
    [['absent', 'nothing to try it on']],
  );
});

test('a test file that crashes while it loads counts as failed and shows its output', async () => {
  const outcome = await run(`throw new Error('cannot load');`);
  assert.equal(outcome.passed, 0);
  assert.equal(outcome.failures.length, 1);
  assert.match(outcome.output + JSON.stringify(outcome.failures), /cannot load/);
});

test('a test file that ends its process early counts as failed although its exit code is 0', async () => {
  const outcome = await run(`test('good', () => {});\ntest('leaves', () => process.exit(0));`);
  assert.equal(outcome.failures.length, 1);
  assert.match(outcome.failures[0]?.detail ?? '', /ended (its process )?before (its tests|they) did/);
});

test('a test file that is killed by a signal counts as failed and names the signal', async () => {
  const outcome = await run(
    `test('dies', async () => { process.kill(process.pid, 'SIGKILL'); await new Promise(() => {}); });`,
  );
  assert.equal(outcome.failures.length, 1);
  assert.match(outcome.failures[0]?.detail ?? '', /signal SIGKILL/);
});

describe('a test file that does not end', { concurrency: true }, () => {
  test('one that hangs is killed at its deadline and names the test that was running', async () => {
    const text = `test('good', () => {});\ntest('waits', () => new Promise((end) => { setTimeout(end, ${HANG_MS}); }));`;
    const outcome = await run(text, { deadlineMs: CUT_SHORT_MS });
    assert.equal(outcome.passed, 1);
    assert.match(
      outcome.failures[0]?.detail ?? '',
      new RegExp(`did not end within ${CUT_SHORT_MS} ms and was killed; still running: waits`),
    );
  });

  test('one that leaves something open is killed at its deadline and says so', async () => {
    const outcome = await run(`test('good', () => { setTimeout(() => {}, ${HANG_MS}); });`, {
      deadlineMs: CUT_SHORT_MS,
    });
    assert.equal(outcome.passed, 1);
    assert.match(outcome.failures[0]?.detail ?? '', /something open/);
  });
});

test('a test file that never gives way is killed at its deadline', async () => {
  const outcome = await run(
    `process.on('SIGTERM', () => {});\ntest('spins', () => { const end = Date.now() + ${HANG_MS}; while (Date.now() < end); });`,
    {
      deadlineMs: 2_000,
    },
  );
  assert.match(outcome.failures[0]?.detail ?? '', /killed; it had reported no test yet/);
});

test('a test file without a test counts as failed, but not when a name was asked for', async () => {
  assert.match((await run('export {};')).failures[0]?.detail ?? '', /reported no test/);
  assert.match((await run(`describe('empty', () => {});`)).failures[0]?.detail ?? '', /holds no test/);
  const outcome = await run(`test('alpha', () => {});\ntest('beta', () => {});`, { namePattern: 'beta' });
  assert.deepEqual([outcome.passed, outcome.failures], [1, []]);
  assert.deepEqual((await run(`test('alpha', () => {});`, { namePattern: 'gamma' })).failures, []);
});

test('what a test file starts in its group ends with it', { timeout: DEADLINE_MS }, async () => {
  const path = join(folder, 'orphan.sock');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const orphanEnded = once(server, 'connection').then(([socket]) => once(socket.resume(), 'close'));
  const orphan = `require('node:net').connect(${JSON.stringify(path)}).on('connect', () => console.log('up'))`;
  const outcome = await run(`
    import { spawn } from 'node:child_process';
    import { once } from 'node:events';
    test('leaves a child that would run for ever', async () => {
      const child = spawn(process.execPath, ['-e', ${JSON.stringify(orphan)}], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      child.stdout.destroy();
      child.unref();
    });
  `);
  assert.deepEqual([outcome.passed, outcome.failures], [1, []]);
  await orphanEnded;
  server.close();
});

test('a test file sees neither HOME nor TMPDIR nor settings of the person at the desk', async () => {
  const outcome = await run(`test('looks round', () => console.log(JSON.stringify(process.env)));`);
  const seen = JSON.parse(outcome.output) as NodeJS.ProcessEnv;
  assert.match(seen.HOME ?? '', /collective-test-\w+\/home$/);
  assert.match(seen.TMPDIR ?? '', /collective-test-\w+\/tmp$/);
  assert.deepEqual(
    Object.keys(seen).filter((name) => /^(XDG_|COLLECTIVE_)/.test(name)),
    [],
  );
});
