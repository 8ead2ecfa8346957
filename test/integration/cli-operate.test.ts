import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CliWorld, freePortBase, partsOf, until } from './cli-world.ts';

interface Finding {
  readonly level: string;
  readonly about: string;
  readonly says: string;
  readonly todo?: string;
}

const slow = { timeout: 180_000 };

async function findings(world: CliWorld): Promise<{ exit: number | null; found: Finding[] }> {
  const { exit, out } = await world.run(['doctor', '--json']);
  return { exit, found: JSON.parse(out) as Finding[] };
}

test(
  'collective doctor: a new member lacks only a backup; what is stopped is found, with what to do',
  slow,
  async () => {
    await using world = await CliWorld.create();
    const up = await world.up(['--member', 'alice', '--port-base', String(await freePortBase()), '--capacity', '1GiB']);
    const fresh = await findings(world);
    assert.equal(fresh.exit, 0);
    assert.deepEqual(
      fresh.found.filter(({ level }) => level !== 'ok').map(({ about }) => about),
      ['backup'],
    );
    assert.ok(fresh.found.some(({ about, says }) => about === 'node node-2' && /reached in \d+ ms/.test(says)));
    await world.ok(['backup', 'create', 'a.backup']);
    assert.match(await world.ok(['doctor']), /All is well\.\n$/);

    const node = (await partsOf(world.dataOf('alice'))).find(({ name }) => name === 'node-1');
    assert.ok(node !== undefined);
    process.kill(node.pid, 'SIGSTOP');
    let last: { exit: number | null; found: Finding[] } = { exit: null, found: [] };
    const problem = (): Finding | undefined =>
      last.found.find(({ level, about }) => level === 'problem' && about === 'node node-1');
    const looked = async (): Promise<boolean> => {
      last = await findings(world);
      return problem() !== undefined;
    };
    await until(looked, 'the node that hangs is found', 60_000, () => JSON.stringify(last));
    process.kill(node.pid, 'SIGCONT');
    assert.equal(last.exit, 1);
    assert.ok((problem()?.todo ?? '').length > 10);
    await up.stop();
    const gone = await world.run(['doctor', '--timeout', '60s']);
    assert.equal(gone.exit, 1);
    assert.match(gone.out, /PROBLEM {2}coordinator: /);
    assert.match(gone.out, /Is it running/);
  },
);

test(
  'collective maintenance and events: settings hold over a restart, and who changed them is told',
  slow,
  async () => {
    await using world = await CliWorld.create();
    const base = ['--member', 'alice', '--port-base', String(await freePortBase()), '--capacity', '1GiB'];
    const first = await world.up(base);
    assert.match(await world.ok(['maintenance', 'show']), /repair-after: +10m/);
    const settled = JSON.parse(await world.ok(['maintenance', 'settle-losses', '--json']));
    assert.deepEqual(settled, { settled: 0, left: 0 }, 'nothing was lost');
    const changed = await world.ok([
      'maintenance',
      'set',
      'repair-after=1h',
      'repair-rate=20MB',
      'scrub-period=off',
      '--json',
    ]);
    const { repairAfterSeconds, repairBytesPerSecond, scrubPeriodSeconds, garbageGraceSeconds } = JSON.parse(changed);
    assert.deepEqual(
      [repairAfterSeconds, repairBytesPerSecond, scrubPeriodSeconds, garbageGraceSeconds],
      [3_600, 20_000_000, 0, 86_400],
    );
    for (const [bad, says] of [
      ['repair-after=never', /never/],
      ['repair-after=1ms', /repairAfterSeconds/],
      ['nonsense=1', /the settings are repair-after/],
      ['repair-after', /SETTING=VALUE/],
    ] as const) {
      const { exit, err } = await world.run(['maintenance', 'set', bad]);
      assert.equal(exit, 2, `${bad}: ${err}`);
      assert.match(err, says);
    }
    await first.stop();
    const second = await world.up(base);
    const kept = JSON.parse(await world.ok(['maintenance', 'show', '--json']));
    assert.deepEqual([kept.repairAfterSeconds, kept.scrubPeriodSeconds], [3_600, 0]);
    const events = JSON.parse(await world.ok(['events', '--kind', 'maintenance-set', '--json']));
    assert.equal(events.length, 1);
    assert.equal(events[0].details.repairAfterSeconds, '3600');
    assert.match(await world.ok(['events']), /maintenance-set/);
    await second.stop();
  },
);

test(
  'collective nodes scrub: all is read now, and the result is in status, as a table and for programs',
  slow,
  async () => {
    await using world = await CliWorld.create();
    const up = await world.up(['--member', 'alice', '--port-base', String(await freePortBase()), '--capacity', '1GiB']);
    await world.ok(['cp', process.execPath, 'collective:/program']);
    assert.equal((await world.run(['nodes', 'scrub'])).exit, 2, 'which ones?');
    assert.match((await world.run(['nodes', 'scrub', 'node-9'])).err, /no node of that name/);
    const scrubbed = JSON.parse(await world.ok(['nodes', 'scrub', '--all', '--wait', '--json'])) as {
      scrub: { lastEnded: string; lastDamaged: number; passBegan?: string };
    }[];
    assert.equal(scrubbed.length, 2);
    for (const { scrub } of scrubbed) {
      assert.match(scrub.lastEnded, /^20\d\d-/);
      assert.deepEqual([scrub.lastDamaged, scrub.passBegan], [0, undefined]);
    }
    await world.ok(['rm', '--permanent', 'collective:/program']);
    let said = '';
    await until(
      async () => {
        said = await world.ok(['status']);
        return /Garbage: +\d\d+ chunks with [\d.]+ MiB, kept for 1d, 0 orphans/.test(said);
      },
      'what was removed is garbage',
      30_000,
      () => said,
    );
    assert.match(await world.ok(['status']), /Scrub: +the oldest whole pass ended \S+ ago, 0 found damaged/);
    const asked = JSON.parse(await world.ok(['events', '--kind', 'scrub-asked', '--json'])) as unknown[];
    assert.equal(asked.length, 2);
    await up.stop();
  },
);
