/** For tests of moves between realms: a member whose job runs step by step as a test says, and a look at all that it holds. */
import assert from 'node:assert/strict';
import type { InodeNumber, RealmId } from '@collective/base/ids';
import { CreateRealmRequest, type Realm } from '@collective/protocol/gen/admin';
import { InodeType } from '@collective/protocol/gen/session';
import { NO_USAGE, sum, type UsageChange } from '../engine/usage-sums.ts';
import { THE_MEMBER } from '../session/realm-rights.ts';
import { type ScriptedClient, SessionWorld, type WorldOptions } from '../session/session-harness.ts';
import type { InodeRow, JobRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian, type Table } from '../tables/table.ts';
import {
  BLOCKS,
  CHUNKS,
  DENTRIES,
  DOOMED,
  INODES,
  JOB_LINKS,
  JOB_VISITS,
  TRASH,
  TRASH_NAMES,
} from '../tables/tables.ts';
import { isBelow } from './realm-border.ts';
import { allJobs, hasEnded, JOB_DONE, stepOfMove } from './realm-moves.ts';
import { storedRealms } from './realms.ts';

const ROWS_MAX = 15_000;

export class RealmWorld {
  readonly world: SessionWorld;

  /** root administers, and its clients run as root. */
  static async start(options: WorldOptions = {}): Promise<RealmWorld> {
    const world = await SessionWorld.start(options);
    await world.subject('root', { admin: true });
    return new RealmWorld(world);
  }

  private constructor(world: SessionWorld) {
    this.world = world;
  }

  client(...args: Parameters<SessionWorld['client']>): Promise<ScriptedClient> {
    return this.world.client(...args);
  }

  create(path: string, more: Partial<CreateRealmRequest> = {}): Promise<Realm> {
    return this.world.finish(this.world.core.createRealm(CreateRealmRequest.fromPartial({ path, ...more })));
  }

  dissolve(path: string): Promise<number> {
    return this.world.finish(this.world.core.dissolveRealm(path));
  }

  realms(): Promise<Realm[]> {
    return this.world.finish(this.world.core.listRealms());
  }

  async realm(path: string): Promise<Realm> {
    const found = (await this.realms()).find((each) => each.path === path);
    assert.ok(found, `there is a realm ${path}`);
    return found;
  }

  /** One step of the job that is at work; undefined when none is. */
  async step(): Promise<JobRow | undefined> {
    const running = (await this.jobs()).find(({ row }) => !hasEnded(row));
    if (running === undefined) return undefined;
    return await this.world.finish(
      this.world.core.change(THE_MEMBER, (context) => stepOfMove(context, running.job), { durability: 'written' }),
    );
  }

  /** All steps; answers the job as it ended. */
  async finish(): Promise<JobRow> {
    for (;;) {
      const row = await this.step();
      assert.ok(row, 'a job is at work');
      if (hasEnded(row)) return row;
    }
  }

  async finishWell(): Promise<JobRow> {
    const row = await this.finish();
    assert.equal(row.state, JOB_DONE, row.failure);
    return row;
  }

  jobs(): Promise<ReturnType<typeof allJobs>> {
    return this.world.finish(this.world.core.engine.run((tx) => allJobs({ tx })));
  }

  /**
   * Looks at every row: each inode is in the realm of its directory, but for roots of realms; chunks and entries of the trash
   * are in that of their inode; what each realm is said to use is what its inodes use; nothing is left of jobs.
   */
  async verify(): Promise<Map<number, UsageChange>> {
    return await this.world.finish(
      this.world.core.engine.run((tx) => {
        const all = <V>(table: Table<never, V>): { key: string; value: V }[] =>
          tx.scan(table as never, table.prefix, prefixEnd(table.prefix), ROWS_MAX) as never;
        const inodes = new Map<number, InodeRow>(
          all(INODES as never).map(({ key, value }) => [readBigEndian(key, 1, 6), value as InodeRow]),
        );
        const roots = new Set(storedRealms(tx).map(({ row }) => row.root));
        for (const { key, value } of all(DENTRIES as never) as { key: string; value: { inode: number } }[]) {
          const child = inodes.get(value.inode);
          assert.ok(child, `entry ${key} leads to an inode`);
          if (roots.has(value.inode)) continue;
          assert.equal(
            child.realm,
            inodes.get(readBigEndian(key, 1, 6))?.realm,
            `inode ${value.inode} is in the realm of its directory`,
          );
        }
        const used = new Map<number, UsageChange>();
        for (const [inode, row] of inodes) {
          const kept = row.trashed === 0 ? 0 : 1;
          const directories = row.type === InodeType.DIRECTORY && row.links > 0 ? 1 : 0;
          const { storedBytes: bytes } = row;
          const more = { inodes: 1, bytes, directories, trashBytes: kept * bytes, trashInodes: kept };
          used.set(row.realm, sum(used.get(row.realm) ?? NO_USAGE, more));
          if (kept === 1)
            assert.equal(tx.get(TRASH, row.realm as RealmId, row.trashed)?.inode, inode, `trash of inode ${inode}`);
        }
        for (const { realm, row } of storedRealms(tx)) {
          assert.deepEqual({ ...tx.usageOf(realm) }, { ...(used.get(realm) ?? NO_USAGE) }, `usage of realm ${realm}`);
          assert.equal(row.move, undefined);
        }
        for (const { key, value } of all(TRASH_NAMES as never) as {
          key: string;
          value: { realm: number; inode: number };
        }[]) {
          assert.equal(value.realm, inodes.get(value.inode)?.realm);
          const from = inodes.get(readBigEndian(key, 1, 6));
          if (from !== undefined)
            assert.equal(value.realm, from.realm, `removed inode ${value.inode} is in the realm of its directory`);
        }
        const owners = new Map([...inodes].map(([inode, row]) => [row.data, { inode, row }]));
        for (const { key, value } of all(BLOCKS as never) as {
          key: string;
          value: { slices: { chunk: Buffer }[] };
        }[]) {
          const data = readBigEndian(key, 1, 6);
          const owner = owners.get(data);
          if (owner === undefined) {
            assert.ok(tx.get(DOOMED, data as never), `blocks ${data} are of an inode, or on their way out`);
            continue;
          }
          for (const { chunk } of value.slices)
            if (chunk.length === 16)
              assert.equal(
                tx.get(CHUNKS, chunk.toString('hex') as never)?.realm,
                owner.row.realm,
                `chunks of inode ${owner.inode}`,
              );
        }
        for (const table of [JOB_VISITS, JOB_LINKS]) assert.equal(all(table as never).length, 0, table.name);
        return used;
      }),
    );
  }

  /** Files with a name below the directory and another that is not. */
  async linksAcross(border: number): Promise<number[]> {
    return await this.world.finish(
      this.world.core.engine.run((tx) => {
        const sides = new Map<number, Set<boolean | undefined>>();
        for (const { key, value } of tx.scan(DENTRIES, DENTRIES.prefix, prefixEnd(DENTRIES.prefix), ROWS_MAX)) {
          if (value.type === InodeType.DIRECTORY) continue;
          const seen = sides.get(value.inode) ?? new Set();
          sides.set(value.inode, seen.add(isBelow(tx, readBigEndian(key, 1, 6) as InodeNumber, border)));
        }
        return [...sides].filter(([, seen]) => seen.size > 1).map(([inode]) => inode);
      }),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.world[Symbol.asyncDispose]();
  }
}
