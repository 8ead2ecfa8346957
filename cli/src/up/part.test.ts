import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { Part, type PartCommand, type PartEvents } from './part.ts';
import { RotatingLog } from './rotating-log.ts';

const clock = new SystemClock();
/** Against hanging, not a promise. */
const WITHIN_MS = 60_000;

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-part-'));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function command(cwd: string, program: string): PartCommand {
  return {
    name: 'part',
    program: process.execPath,
    args: ['-e', program],
    env: process.env,
    cwd,
    ports: { port: 1, healthPort: 2 },
  };
}

async function until(level: () => boolean, what: string): Promise<void> {
  const startedMs = clock.bootMs();
  while (!level()) {
    assert.ok(clock.bootMs() - startedMs < WITHIN_MS, `waited ${WITHIN_MS} ms until ${what}`);
    await sleep(clock, 10);
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (thrown) {
    assert.equal((thrown as NodeJS.ErrnoException).code, 'ESRCH');
    return false;
  }
}

test('a killed child is started again, and a stop ends it and nothing starts it any more', async () => {
  await withFolder(async (folder) => {
    const log = await RotatingLog.open(join(folder, 'part.log'));
    const pids: number[] = [];
    const events: PartEvents = { started: (pid) => pids.push(pid), restarting: () => undefined };
    const part = new Part(command(folder, 'setInterval(() => {}, 1000)'), clock, log, events);
    const ran = part.run();
    await until(() => pids.length === 1, 'it runs');
    process.kill(pids[0] as number, 'SIGKILL');
    await until(() => pids.length === 2, 'it runs again');
    assert.equal(part.restarts, 1);
    await part.stop();
    await ran;
    assert.equal(isAlive(pids[1] as number), false);
    assert.equal(pids.length, 2);
    await log.close();
  });
});

test('what the child says goes to its log; the error of its last words becomes the reason for giving up', async () => {
  await withFolder(async (folder) => {
    const log = await RotatingLog.open(join(folder, 'part.log'));
    const error = { code: 'address_in_use', message: 'Listen on port 7420', causes: ['listen EADDRINUSE'] };
    const program = `console.log('hello'); console.error(${JSON.stringify(JSON.stringify({ error }))}); process.exitCode = 1`;
    const events: PartEvents = { started: () => undefined, restarting: () => undefined };
    const part = new Part(command(folder, program), clock, log, events);
    await assert.rejects(part.run(), { code: 'address_in_use', message: 'Run part: Listen on port 7420' });
    assert.match(await readFile(join(folder, 'part.log'), 'utf8'), /hello/);
    await log.close();
  });
});

test('the death of the supervisor by SIGKILL ends its parts: their standard input ends', async () => {
  await withFolder(async (folder) => {
    const mark = join(folder, 'ended');
    const partProgram = `process.stdin.resume(); process.stdin.on('end', () => { require('fs').writeFileSync(${JSON.stringify(mark)}, ''); process.exit(0) })`;
    const supervisorProgram = `
      import { Part } from ${JSON.stringify(new URL('./part.ts', import.meta.url).href)};
      import { RotatingLog } from ${JSON.stringify(new URL('./rotating-log.ts', import.meta.url).href)};
      import { SystemClock } from ${JSON.stringify(import.meta.resolve('@collective/base/system-clock'))};
      const log = await RotatingLog.open(${JSON.stringify(join(folder, 'part.log'))});
      const command = ${JSON.stringify({ ...command(folder, partProgram), env: {} })};
      new Part(command, new SystemClock(), log, { started: () => console.log('started'), restarting() {} }).run();`;
    const supervisor = spawn(process.execPath, ['--input-type=module-typescript', '-e', supervisorProgram], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(supervisor.stdout, 'data');
    supervisor.kill('SIGKILL');
    await until(() => existsSync(mark), 'the part has seen the end of its input');
  });
});

test('a log is bounded: at its limit it is turned over once, and the last lines stay known', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'x.log');
    const log = await RotatingLog.open(path, 1_000);
    const lines = Array.from({ length: 200 }, (_, i) => `line ${i} ${'x'.repeat(20)}\n`);
    await log.drain(Readable.from(lines.map((line) => Buffer.from(line))));
    assert.ok((await stat(path)).size <= 1_000);
    assert.ok((await stat(`${path}.1`)).size <= 1_000);
    assert.match(log.lastLines().at(-1) ?? '', /^line 199 /);
    assert.equal(log.lastLines().length, 40);
    await log.close();
  });
});

test('a log that cannot be written loses lines and says how much when it can again', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'logs', 'part.log');
    await mkdir(join(folder, 'logs'));
    const log = await RotatingLog.open(path, 20);
    await log.write(Buffer.from('the first line\n'));
    await rm(join(folder, 'logs'), { recursive: true });
    await log.write(Buffer.from('the second line\n'));
    await log.write(Buffer.from('the third line\n'));
    assert.deepEqual(log.lastLines(), ['the first line', 'the second line', 'the third line']);
    await mkdir(join(folder, 'logs'));
    await writeFile(path, '');
    await log.write(Buffer.from('the fourth line\n'));
    assert.equal(await readFile(path, 'utf8'), '31 bytes of this log could not be written\nthe fourth line\n');
    await log.close();
  });
});

test('a full disk below a log ends nothing', async (t) => {
  if (!existsSync('/dev/full')) return t.skip('no /dev/full');
  await withFolder(async (folder) => {
    const log = await RotatingLog.open('/dev/full');
    const ended: number[] = [];
    const events: PartEvents = { started: () => undefined, restarting: () => ended.push(1) };
    const talking = `setInterval(() => console.log('x'.repeat(10_000)), 1)`;
    const part = new Part(command(folder, talking), clock, log, events);
    const running = part.run();
    await until(() => log.lastLines().length > 5, 'it has said something');
    await part.stop();
    await running;
    assert.deepEqual(ended, []);
    await log.close();
  });
});
