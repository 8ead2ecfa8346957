/** Where servers find themselves in a cluster: on a fresh file system, under another address than before, before names are known. */
import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { until } from './cli-world.ts';
import { freePorts } from './free-ports.ts';
import { PartProcess } from './part-process.ts';
import { seededFile } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const MiB = 1024 * 1024;
/** A test that hangs shall fail and show the logs. */
const ENDS = { timeout: 120_000 };
/** Of the container image. */
const UID = 65_532;

let member: RunningMember;
afterEach(async (t) => {
  member?.printLogs(t);
  await member?.[Symbol.asyncDispose]();
});

describe('servers in odd places', () => {
  test(
    'D4, M2: a fresh file system has a lost+found that only root may look into: coordinator and node start, and start again',
    ENDS,
    async (t) => {
      if (process.getuid?.() !== 0) return t.skip('only root starts a process as another user');
      member = await RunningMember.start({ launched: false, nodes: [{ name: 'node-1' }] });
      await givenAway(member.folder);
      for (const folder of ['coordinator', 'node-1', 'node-1/store'])
        await mkdir(join(member.folder, folder, 'lost+found'), { mode: 0o700, recursive: true });
      await chown(join(member.folder, 'node-1/store'), UID, UID);
      const content = seededFile(1, 3 * MiB);
      for (const life of [1, 2]) {
        const parts = new AsyncDisposableStack();
        await using _ = parts;
        for (const part of member.parts) await parts.use(part.asUser(UID)).start();
        const session = await member.connect();
        if (life === 1) await session.files.write('/kept', [content]);
        assert.ok((await session.files.readAll('/kept')).equals(content), `life ${life}`);
        await session.close();
      }
    },
  );

  test(
    'D10: a node that comes back under another address is reached there by who had it at the earlier one',
    ENDS,
    async () => {
      member = await RunningMember.start({ nodes: [{ name: 'node-1' }] });
      const session = await member.connect();
      const content = seededFile(2, 5 * MiB);
      await session.files.write('/kept', [content]);
      await member.node('node-1').end();
      const [port = 0, healthPort = 0] = await freePorts(2);
      await using moved = new PartProcess({
        name: 'node-1',
        args: [
          ...['node', '--coordinator', `127.0.0.1:${member.coordinatorPort}`, '--data', join(member.folder, 'node-1')],
          // As a pod, which has another address after each start.
          ...['--capacity', '20GiB', '--listen', `127.0.0.2:${port}`, '--advertise', `127.0.0.2:${port}`],
        ],
        healthPort,
        logFile: join(member.folder, 'logs', 'moved'),
      });
      await moved.start();
      const { nodes } = await member.untilStatus(
        (status) => status.nodes.every(({ state }) => state === 'ready'),
        'the node is ready',
        30_000,
      );
      assert.deepEqual(
        nodes.flatMap(({ addresses }) => addresses.map(({ host, port: at }) => `${host}:${at}`)),
        [`127.0.0.2:${port}`, `127.0.0.2:${port}`],
      );
      assert.ok((await session.files.readAll('/kept')).equals(content));
      await session.files.write('/new', [content]);
      assert.ok((await session.files.readAll('/new')).equals(content));
    },
  );

  test(
    'D10: a node whose coordinator has no address yet waits for it, and joins when the name is known',
    ENDS,
    async () => {
      member = await RunningMember.start({ nodes: [{ name: 'node-1' }] });
      await member.node('node-1').end();
      const known = join(member.folder, 'name-is-known');
      const asked = join(member.folder, 'asked');
      const preload = join(member.folder, 'names.mjs');
      await writeFile(preload, namesOf(known, asked));
      const [port = 0, healthPort = 0] = await freePorts(2);
      await using waiting = new PartProcess({
        name: 'node-1',
        args: [
          ...['node', '--coordinator', `coordinator.invalid:${member.coordinatorPort}`, '--capacity', '20GiB'],
          ...['--data', join(member.folder, 'node-1'), '--listen', `127.0.0.1:${port}`],
        ],
        healthPort,
        logFile: join(member.folder, 'logs', 'waiting'),
        env: { NODE_OPTIONS: `--import=${preload}` },
      });
      waiting.launch();
      await until(
        () => existsSync(asked) && statSync(asked).size > 2,
        'it has looked for the name again and again',
        60_000,
        () => waiting.log,
      );
      const answer = await fetch(`http://127.0.0.1:${healthPort}/readyz`);
      assert.deepEqual([answer.status, (await fetch(`http://127.0.0.1:${healthPort}/livez`)).status], [503, 200]);
      await writeFile(known, '');
      await waiting.ready();
    },
  );
});

/** What the user of the image owns, as kubelet gives a volume to the group of a pod; the way to it is open. */
async function givenAway(folder: string): Promise<void> {
  for (let at = folder; at !== dirname(at); at = dirname(at)) {
    const { mode } = statSync(at);
    if ((mode & 0o001) === 0) await chmod(at, (mode & 0o7777) | 0o011);
  }
  await chown(folder, UID, UID);
  for (const entry of await readdir(folder, { recursive: true })) await chown(join(folder, entry), UID, UID);
}

/** A program that is loaded first: the name is known once the file is there. */
function namesOf(known: string, asked: string): string {
  return `
import { promises } from 'node:dns';
import { appendFileSync, existsSync } from 'node:fs';
const { lookup } = promises;
promises.lookup = async (name, options) => {
  if (name !== 'coordinator.invalid') return await lookup(name, options);
  if (existsSync(${JSON.stringify(known)})) return [{ address: '127.0.0.1', family: 4 }];
  appendFileSync(${JSON.stringify(asked)}, '.');
  throw Object.assign(new Error('getaddrinfo ENOTFOUND ' + name), { code: 'ENOTFOUND' });
};
`;
}
