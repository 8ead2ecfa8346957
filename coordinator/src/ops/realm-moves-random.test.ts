/** M9: whatever people do between the steps of jobs that make and dissolve realms, every row is right when they have ended. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { pickOne, randomBelow, SeededRandom } from '@collective/base/random';
import { commitOp, contentOf, ROOT } from '../session/scripted-operations.ts';
import type { ScriptedClient } from '../session/session-harness.ts';
import { JOB_DONE, JOB_FAILED, JOB_TAKING_BACK } from './realm-moves.ts';
import { RealmWorld } from './realm-world.ts';
import { TrashWorld } from './trash-world.ts';

const SEEDS = Number(process.env.SEEDS ?? 25);
const ROUNDS = 4;
const ACTIONS = 60;
const NAMES = 6;
/** Of what was removed, this many are looked for after something was restored. */
const REMOVED_KEPT = 20;
/** Of the realm around them all: people meet it. */
const QUOTA_BYTES = 30_000;
/** What people may meet while realms are made and dissolved. */
const ALLOWED = ['exists', 'not_found', 'cross_realm', 'not_empty', 'is_directory', 'not_directory', 'quota_exceeded'];
const ALLOWED_OF_MOVES = [...ALLOWED, 'invalid_argument', 'stale', 'not_permitted', 'busy'];

interface Entry {
  readonly parent: number;
  readonly name: string;
  readonly inode: number;
  readonly isDirectory: boolean;
}

class People {
  readonly #client: ScriptedClient;
  readonly #trash: TrashWorld;
  readonly #random: SeededRandom;
  #removed: Entry[] = [];
  readonly #entries = new Map<string, Entry>();
  #chunk = 1;

  constructor(client: ScriptedClient, trash: TrashWorld, random: SeededRandom) {
    this.#client = client;
    this.#trash = trash;
    this.#random = random;
  }

  /** One of the directories below the root, by path. */
  someTop(): string {
    return `/${this.#name()}`;
  }

  async act(): Promise<void> {
    const random = this.#random;
    const what = pickOne(random, [
      'mkdir',
      'mkdir',
      'make',
      'make',
      'make',
      'write',
      'write',
      'write',
      'link',
      'link',
      'rename',
      'rename',
      'remove',
    ] as const);
    try {
      await this[what]();
    } catch (thrown) {
      if (!(thrown instanceof CollectiveError) || !ALLOWED_OF_MOVES.includes(thrown.code)) throw thrown;
    }
  }

  async mkdir(): Promise<void> {
    const [parent, name] = [this.#directory(), this.#name()];
    const { inode } = await this.#client.mkdir(parent, name);
    this.#note({ parent, name, inode, isDirectory: true });
  }

  async make(): Promise<void> {
    const [parent, name] = [this.#directory(), this.#name()];
    const length = 1 + randomBelow(this.#random, 500);
    const content = contentOf([{ offset: 0, length, chunk: this.#chunk++ }]);
    const { inode } = await this.#client.make(parent, name, { content });
    this.#note({ parent, name, inode, isDirectory: false });
  }

  async write(): Promise<void> {
    const file = this.#file();
    if (file === undefined) return;
    const slice = {
      offset: randomBelow(this.#random, 400),
      length: 1 + randomBelow(this.#random, 300),
      chunk: this.#chunk++,
    };
    await this.#client.call(commitOp(file.inode, [slice]), 'committed');
  }

  async link(): Promise<void> {
    const file = this.#file();
    if (file === undefined) return;
    const [parent, name] = [this.#directory(), this.#name()];
    const value = { inode: file.inode, parent, name: Buffer.from(name) };
    await this.#client.call({ $case: 'link', value }, 'attributes');
    this.#note({ parent, name, inode: file.inode, isDirectory: false });
  }

  async rename(): Promise<void> {
    const entry = this.#any();
    if (entry === undefined) return;
    const [parent, name] = [this.#directory(), this.#name()];
    await this.#client.rename(entry.parent, entry.name, parent, name);
    this.#entries.delete(keyOf(entry));
    this.#note({ ...entry, parent, name });
  }

  async remove(): Promise<void> {
    const entry = this.#any();
    if (entry === undefined) return;
    const permanent = randomBelow(this.#random, 4) === 0;
    await this.#client.unlink(entry.parent, entry.name, { directory: entry.isDirectory, permanent });
    this.#entries.delete(keyOf(entry));
    this.#removed = [entry, ...this.#removed].slice(0, REMOVED_KEPT);
  }

  async cut(): Promise<void> {
    const file = this.#file();
    if (file !== undefined) await this.#client.set(file.inode, { size: randomBelow(this.#random, 600) });
  }

  /** Where it was, or elsewhere; with a directory comes what was removed from it. */
  async restore(): Promise<void> {
    const entries = await this.#trash.list();
    if (entries.length === 0) return;
    const { id } = pickOne(this.#random, entries);
    await this.#trash.restore({ id, to: randomBelow(this.#random, 3) === 0 ? this.someTop() : '' });
    for (const entry of this.#removed) {
      const found = await this.#client.lookup(entry.parent, entry.name).catch(() => undefined);
      if (found?.inode === entry.inode) this.#note(entry);
    }
  }

  async empty(): Promise<void> {
    await this.#trash.empty({ path: this.someTop() });
  }

  #note(entry: Entry): void {
    this.#entries.set(keyOf(entry), entry);
  }

  #name(): string {
    return `n${randomBelow(this.#random, NAMES)}`;
  }

  #directory(): number {
    const found = [...this.#entries.values()].filter(({ isDirectory }) => isDirectory);
    return found.length === 0 || randomBelow(this.#random, 4) === 0 ? ROOT : pickOne(this.#random, found).inode;
  }

  #file(): Entry | undefined {
    const found = [...this.#entries.values()].filter(({ isDirectory }) => !isDirectory);
    return found.length === 0 ? undefined : pickOne(this.#random, found);
  }

  #any(): Entry | undefined {
    return this.#entries.size === 0 ? undefined : pickOne(this.#random, [...this.#entries.values()]);
  }
}

function keyOf({ parent, name }: Entry): string {
  return `${parent}/${name}`;
}

test('M9: random trees, random changes between the steps, restarts: every inode, chunk, trash entry and figure ends where it belongs', async (t) => {
  const ended = { done: 0, failed: 0 };
  for (let seed = 1; seed <= SEEDS; seed++) {
    const random = new SeededRandom(seed);
    await using realms = await RealmWorld.start();
    const client = await realms.client();
    const trash = TrashWorld.of(realms.world);
    await trash.set({ quotaBytes: QUOTA_BYTES });
    const people = new People(client, trash, random);
    for (let round = 0; round < ROUNDS; round++) {
      for (let i = 0; i < ACTIONS; i++) await people.act();
      const path = people.someTop();
      try {
        const realm = (await realms.realms()).find((each) => each.path === path);
        if (realm === undefined) await realms.create(path, { replicas: 1 + randomBelow(random, 3) });
        else await realms.dissolve(path);
      } catch (thrown) {
        if (!(thrown instanceof CollectiveError) || !ALLOWED_OF_MOVES.includes(thrown.code)) throw thrown;
      }
      const restartsAt = randomBelow(random, 40);
      let isTakenBack = false;
      for (let steps = 0; ; steps++) {
        const row = await realms.step();
        if (row === undefined) break;
        if (row.state === JOB_TAKING_BACK && !isTakenBack) {
          isTakenBack = true;
          const across = await realms.linksAcross(row.border);
          assert.ok(across.length > 0, `seed ${seed}, round ${round}: taken back without a reason: ${row.failure}`);
        }
        if (row.state === JOB_DONE || row.state === JOB_FAILED) {
          ended[row.state === JOB_DONE ? 'done' : 'failed'] += 1;
          break;
        }
        assert.ok(steps < 1_000, `seed ${seed}: a job that does not end`);
        // People tire, so that a walk may get ahead of them.
        for (let i = randomBelow(random, 4) * (steps < 60 ? 1 : 0); i > 0; i--) await people.act();
        if (steps === restartsAt) {
          await realms.world.restart('kill');
          await client.attach();
          client.replayed();
        }
      }
      await realms.verify().catch((cause) => assert.fail(new Error(`seed ${seed}, round ${round}`, { cause })));
    }
  }
  t.diagnostic(`${ended.done} jobs done, ${ended.failed} failed and taken back`);
  assert.ok(ended.done > SEEDS / 4 && ended.failed > SEEDS / 4, 'both ends are met often');
});
