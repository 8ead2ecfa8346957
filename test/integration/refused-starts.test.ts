import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, afterEach, before, describe, test } from 'node:test';
import { crc32 } from '@collective/base/crc';
import { SERVER_EXIT } from '@collective/base/lifecycle';
import { until } from './cli-world.ts';
import { freePorts } from './free-ports.ts';
import { PartProcess } from './part-process.ts';
import { seededFile } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const ENDS_WITHIN_MS = 45_000;

describe('starts that are refused with a reason', () => {
  let alice: RunningMember;
  let bob: RunningMember;
  let parts = 0;

  before(async () => {
    [alice, bob] = await Promise.all([RunningMember.start(), RunningMember.start({ member: 'bob', launched: false })]);
    const session = await alice.connect();
    await session.files.write('/kept.raw', [seededFile(1, 3_000_000)]);
    await session.close();
    await alice.node('node-2').kill();
    await Promise.all([alice.coordinator.end(), alice.node('node-1').end()]);
  });
  after(async () => {
    await alice?.[Symbol.asyncDispose]();
    await bob?.[Symbol.asyncDispose]();
  });
  afterEach((t) => alice?.printLogs(t));

  /** Starts a server that must not stay, and answers what it said. */
  async function refused(args: readonly string[]): Promise<{ exit: number | null; log: string }> {
    const logFile = join(alice.folder, 'logs', `refused-${++parts}`);
    await using part = new PartProcess({ name: args[0] ?? '', args, healthPort: 0, logFile });
    part.launch();
    return await part.ended(ENDS_WITHIN_MS);
  }

  const coordinator = (data: string, ...more: string[]): string[] => [
    ...['coordinator', '--member', 'alice', '--collective', 'home', '--data', data, '--listen', '127.0.0.1:0'],
    ...more,
  ];
  const node = (data: string, ...more: string[]): string[] => [
    ...['node', '--coordinator', `127.0.0.1:${alice.coordinatorPort}`, '--data', data, '--capacity', '1GiB'],
    ...['--listen', '127.0.0.1:0', ...more],
  ];

  /** A copy of a folder with one file changed. */
  async function changed(
    folder: string,
    file: string,
    change: (bytes: Buffer) => Buffer,
  ): Promise<{ folder: string; contents: Record<string, string> }> {
    const copy = join(alice.folder, `changed-${++parts}`);
    await cp(folder, copy, { recursive: true, verbatimSymlinks: true });
    const path = join(copy, file);
    await writeFile(path, change(await readFile(path)));
    return { folder: copy, contents: await contentsOf(copy) };
  }

  test('a coordinator says that its data is of a newer format, and changes nothing', async () => {
    const data = join(alice.folder, 'coordinator');
    const [log = ''] = await readdir(join(data, 'log'));
    for (const [file, change] of [
      ['member.json', newerJson],
      [join('log', log), newerLog],
    ] as const) {
      const copy = await changed(data, file, change);
      const { exit, log: said } = await refused(coordinator(copy.folder));
      assert.equal(exit, 1, said);
      assert.match(said, /\[version_too_new\]/, `${file}: ${said}`);
      assert.match(said, /Update this program/);
      assert.deepEqual(await contentsOf(copy.folder), copy.contents, `${file}: nothing was changed`);
    }
    const { folder } = await changed(data, join('ca', 'generation.json'), newerJson);
    assert.match((await refused(coordinator(folder))).log, /\[version_too_new\]/, 'the authority');
    const database = await changed(data, 'metadata.db', (bytes) => bytes);
    const view = new DatabaseSync(join(database.folder, 'metadata.db'));
    view.exec("UPDATE meta SET value = 99 WHERE name = 'format'");
    view.close();
    assert.match((await refused(coordinator(database.folder))).log, /\[version_too_new\]/, 'the view');
  });

  test('a node says that its data is of a newer format, and changes no chunk', async () => {
    for (const [name, ending, change] of [
      ['node-1', 'disk.json', newerJson],
      // Ended in order: its segments are sealed.
      ['node-1', '.idx', newerSidecar],
      // Killed: they are not.
      ['node-2', '.seg', newerSegment],
    ] as const) {
      const data = join(alice.folder, name);
      const file = (await readdir(data, { recursive: true })).find((path) => path.endsWith(ending)) ?? ending;
      const copy = await changed(data, file, change);
      const { exit, log: said } = await refused(node(copy.folder));
      assert.equal(exit, 1, said);
      assert.match(said, /\[version_too_new\]/, `${file}: ${said}`);
      const contents = await contentsOf(copy.folder);
      const kept = Object.keys(copy.contents).filter((path) => /disk\.json$|segments/.test(path));
      assert.ok(kept.length > 1);
      for (const path of kept) assert.equal(contents[path], copy.contents[path], path);
    }
  });

  test('a typo in a configuration file is refused with its line, its key and the key that was meant', async () => {
    const file = join(alice.folder, 'node.yaml');
    for (const [content, says] of [
      ['coordinator: localhost:1\ncapcity: 1GiB\n', /node\.yaml, line 2, .*'capcity'.*did you mean 'capacity'\?/],
      [
        'coordinator: localhost:1\ndata: /x\ncapacity: 5XB\n',
        /node\.yaml, line 3, key 'capacity': .*5XB.*no unit 'XB'/,
      ],
      ['coordinator: localhost\n', /node\.yaml, line 1, key 'coordinator': .*host:port/],
      ['coordinator: [a\n', /node\.yaml, line \d/],
    ] as const) {
      await writeFile(file, content);
      const { exit, log } = await refused(['node', '--config', file]);
      assert.equal(exit, 2, log);
      assert.match(log, says);
    }
    const { exit, log } = await refused(['coordinator', '--no-such-flag']);
    assert.equal(exit, 2, log);
    assert.match(log, /--no-such-flag/);
  });

  test('T1: data, authority or certificate of another member is refused by name', async () => {
    const bobs = join(bob.folder, 'coordinator');
    assert.match((await refused(coordinator(bobs))).log, /alice\.home[\s\S]*bob\.home[\s\S]*\[wrong_member\]/);
    const mixed = join(alice.folder, 'mixed');
    await cp(join(alice.folder, 'coordinator'), mixed, { recursive: true, verbatimSymlinks: true });
    await rm(join(mixed, 'ca'), { recursive: true });
    await rm(join(mixed, 'tls'), { recursive: true });
    await cp(join(bobs, 'tls'), join(mixed, 'tls'), { recursive: true, verbatimSymlinks: true });
    const { exit, log } = await refused(coordinator(mixed));
    assert.equal(exit, 2, log);
    assert.match(
      log,
      /spiffe:\/\/alice\.home\/coordinator[\s\S]*spiffe:\/\/bob\.home\/coordinator[\s\S]*\[wrong_member\]/,
    );
    const asUser = await refused(node(join(alice.folder, 'node-1'), '--tls', join(alice.folder, 'ann')));
    assert.match(asUser.log, /spiffe:\/\/alice\.home\/user\/ann/);
  });

  test('M2: one folder serves one process; the second is told so and harms nothing', async () => {
    await Promise.all([alice.coordinator.start(), alice.node('node-1').start()]);
    const second = await refused(coordinator(join(alice.folder, 'coordinator')));
    assert.match(second.log, /\[data_in_use\]/);
    const secondNode = await refused(node(join(alice.folder, 'node-1')));
    assert.match(secondNode.log, /\[data_in_use\]/);
    const session = await alice.connect();
    assert.ok((await session.files.readAll('/kept.raw')).equals(seededFile(1, 3_000_000)));
    await session.close();
    await Promise.all([alice.coordinator.end(), alice.node('node-1').end()]);
  });

  test('a port that is taken is named', async () => {
    const stranger = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => stranger.once('listening', resolve));
    try {
      const address = stranger.address();
      assert.ok(address !== null && typeof address === 'object');
      const listen = `127.0.0.1:${address.port}`;
      for (const args of [
        coordinator(join(alice.folder, 'coordinator'), '--listen', listen),
        node(join(alice.folder, 'node-1'), '--listen', listen),
      ]) {
        const { exit, log } = await refused(args);
        assert.equal(exit, 1, log);
        assert.match(log, new RegExp(`${address.port}[\\s\\S]*\\[address_in_use\\]`));
      }
    } finally {
      stranger.close();
    }
  });

  test('an address that is not of this machine is named, with what to do', async () => {
    for (const args of [
      coordinator(join(alice.folder, 'coordinator'), '--listen', '203.0.113.1:7420'),
      node(join(alice.folder, 'node-1'), '--listen', '203.0.113.1:7420'),
    ]) {
      const { exit, log } = await refused(args);
      assert.equal(exit, 5, log);
      assert.match(log, /203\.0\.113\.1:7420: this machine has no such address[\s\S]*Name an address of this machine/);
    }
  });

  test('a folder that is a file, damaged files and room for nothing are told by their path', async () => {
    const file = join(alice.folder, 'a-file');
    await writeFile(file, '');
    assert.match((await refused(coordinator(file))).log, /a-file as a folder: it is a file/);
    const torn = await changed(join(alice.folder, 'node-1'), join('store', 'disk.json'), () => Buffer.from('{'));
    const { exit, log } = await refused(node(torn.folder));
    assert.equal(exit, 7, log);
    assert.match(log, new RegExp(`${join(torn.folder, 'store')}: Read disk\\.json`));
    const keys = await changed(join(alice.folder, 'coordinator'), 'access-keys.json', () => Buffer.from('{'));
    assert.match((await refused(coordinator(keys.folder))).log, /access-keys\.json[\s\S]*may be removed/);
    const little = await refused(node(join(alice.folder, 'node-1'), '--capacity', '72MiB'));
    assert.equal(little.exit, 2, little.log);
    assert.match(little.log, /Give 72\.0 MiB for chunks: .*at least 73\.0 MiB/);
  });

  test('T5: an authority that has lost a file is not made anew over what is left', async () => {
    const data = join(alice.folder, 'halved');
    for (const name of ['generation.json', 'ca.key', 'ca.crt']) {
      await cp(join(alice.folder, 'coordinator'), data, { recursive: true, verbatimSymlinks: true });
      await rm(join(data, 'ca', name));
      const { exit, log } = await refused(coordinator(data, '--auto-tls'));
      assert.equal(exit, 7, log);
      assert.match(log, new RegExp(`ca/${name}`));
      await rm(data, { recursive: true });
    }
  });

  test('T3: a node whose coordinator is not there yet says so, goes on trying to enrol, and ends at once when asked to', async () => {
    await alice.coordinator.start();
    const session = await alice.connect();
    const { token } = await session.admin.createToken({ role: 'node', name: 'node-9', ttlSeconds: 600 });
    await session.close();
    await alice.coordinator.end();
    const trust = join(alice.folder, 'ann', 'trust.pem');
    const args = node(join(alice.folder, 'node-9'), '--token', `node/node-9:${token}`, '--ca-cert', trust);
    const [healthPort = 0] = await freePorts(1);
    const logFile = join(alice.folder, 'logs', 'node-9');
    await using late = new PartProcess({ name: 'node-9', args, healthPort, logFile });
    const says = async (words: RegExp): Promise<void> =>
      until(
        () => words.test(late.log),
        `node-9 says ${words}`,
        30_000,
        () => late.log,
      );
    late.launch();
    await says(/not enrolled yet/);
    const { exit, tookMs } = await late.end();
    assert.deepEqual([exit, tookMs < 5_000], [0, true], late.log);
    late.launch();
    await alice.coordinator.start();
    await late.ready(40_000);
    await says(/registered with the coordinator/);
    await alice.coordinator.end();
  });

  test('without a certificate a server says how to get one', async () => {
    const empty = join(alice.folder, 'empty');
    assert.match((await refused(coordinator(empty))).log, /--auto-tls/);
    assert.match((await refused(node(empty))).log, /--token and --ca-cert/);
  });

  test('M2a: a coordinator whose data was put back to an older copy ends as soon as a node tells it of a newer start', async () => {
    const data = join(alice.folder, 'coordinator');
    const [older, newer] = [join(alice.folder, 'older'), join(alice.folder, 'newer')];
    await cp(data, older, { recursive: true, verbatimSymlinks: true });
    alice.node('node-1').launch();
    // Twice: the older copy, started once, must still be behind.
    for (let starts = 0; starts < 2; starts++) {
      await alice.coordinator.start();
      await alice.untilFollows('node-1', 20_000);
      await alice.coordinator.end();
    }
    await rename(data, newer);
    await rename(older, data);
    alice.coordinator.launch();
    const { exit, log } = await alice.coordinator.ended(ENDS_WITHIN_MS);
    assert.equal(exit, SERVER_EXIT.failed, log);
    assert.match(log, /node-1 has served epoch .*which is newer/);
    await rename(data, older);
    await rename(newer, data);
    await alice.coordinator.start();
    await alice.untilFollows('node-1', 20_000);
    const session = await alice.connect();
    assert.ok((await session.files.readAll('/kept.raw')).equals(seededFile(1, 3_000_000)));
  });
});

function newerJson(bytes: Buffer): Buffer {
  const facts = JSON.parse(bytes.toString()) as Record<string, unknown>;
  const key = 'format' in facts ? 'format' : 'version';
  return Buffer.from(`${JSON.stringify({ ...facts, [key]: 99 })}\n`);
}

/** docs/formats/log.md: the version is at byte 8 and looked at before the checksum. */
function newerLog(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32LE(99, 8);
  return copy;
}

/** docs/formats/chunk-segment.md: the version is at byte 4, the header's checksum at byte 60. */
function newerSegment(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32LE(99, 4);
  copy.writeUInt32LE(crc32(copy.subarray(0, 60)), 60);
  return copy;
}

/** As a segment's, but its checksum covers the entries first. */
function newerSidecar(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32LE(99, 4);
  copy.writeUInt32LE(crc32(copy.subarray(64), crc32(copy.subarray(0, 60))), 60);
  return copy;
}

async function contentsOf(folder: string): Promise<Record<string, string>> {
  const contents: Record<string, string> = {};
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile())
      contents[path] = createHash('sha256')
        .update(await readFile(path))
        .digest('hex');
  }
  return contents;
}
