/** For tests of the trash: a member whose trash people look into, restore from and empty, as over the admin calls. */
import assert from 'node:assert/strict';
import type { EmptyTrashRequest, RestoredTrash, RestoreTrashRequest, TrashEntry } from '@collective/protocol/gen/admin';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import { TrashService } from '../server/trash-service.ts';
import { type ScriptedClient, SessionWorld, subjectUri, type WorldOptions } from '../session/session-harness.ts';
import { prefixEnd } from '../tables/table.ts';
import { BLOCKS, DOOMED, INODES, ORPHANS, REALMS, TRASH, TRASH_NAMES, XATTRS } from '../tables/tables.ts';

type Totals = Omit<RestoredTrash, 'resume'>;

export class TrashWorld {
  readonly world: SessionWorld;

  /** root administers; its clients run as root. */
  static async start(options: WorldOptions = {}): Promise<TrashWorld> {
    const world = await SessionWorld.start(options);
    await world.subject('root', { admin: true });
    return new TrashWorld(world);
  }

  /** Of a member that is there, whose subject root administers. */
  static of(world: SessionWorld): TrashWorld {
    return new TrashWorld(world);
  }

  private constructor(world: SessionWorld) {
    this.world = world;
  }

  client(...args: Parameters<SessionWorld['client']>): Promise<ScriptedClient> {
    return this.world.client(...args);
  }

  /** Changes a realm as an administrator will. */
  async set(change: { trashSeconds?: number; trashYields?: boolean; quotaInodes?: number; quotaBytes?: number }) {
    await this.world.finish(
      this.world.core.engine.run((tx) => {
        const row = tx.get(REALMS, 1 as never);
        assert.ok(row);
        tx.put(REALMS, { ...row, ...change }, 1 as never);
      }),
    );
  }

  async list(path = '', user = 'root', limit = 0): Promise<TrashEntry[]> {
    const entries: TrashEntry[] = [];
    let before = 0;
    do {
      const page = await this.world.finish(this.#service.list({ path, limit, before }, peer(user)));
      entries.push(...page.entries);
      before = page.next;
    } while (before !== 0);
    return entries;
  }

  async paths(path = '', user = 'root', limit = 0): Promise<string[]> {
    return (await this.list(path, user, limit)).map((entry) => entry.path);
  }

  async restore(request: string | Partial<RestoreTrashRequest>, user = 'root'): Promise<Totals & { calls: number }> {
    const named = typeof request === 'string' ? { path: request } : request;
    const sum = { path: '', files: 0, directories: 0, bytes: 0, skipped: 0, skippedPaths: [] as string[], calls: 0 };
    let resume = Buffer.alloc(0);
    do {
      const full = { id: 0, path: '', to: '', at: undefined, ...named, resume };
      const step = await this.world.finish(this.#service.restore(full, peer(user)));
      sum.path ||= step.path;
      sum.files += step.files;
      sum.directories += step.directories;
      sum.bytes += step.bytes;
      sum.skipped += step.skipped;
      sum.skippedPaths.push(...step.skippedPaths);
      sum.calls += 1;
      resume = Buffer.from(step.resume);
    } while (resume.length > 0);
    return sum;
  }

  /** One call, with whatever mark. */
  restoreOnce(request: Partial<RestoreTrashRequest>, user: string): Promise<RestoredTrash> {
    const full = { id: 0, path: '', to: '', at: undefined, resume: Buffer.alloc(0), ...request };
    return this.world.finish(this.#service.restore(full, peer(user)));
  }

  async empty(
    request: Partial<EmptyTrashRequest> = {},
    user = 'root',
  ): Promise<{ files: number; directories: number }> {
    const sum = { files: 0, directories: 0, bytes: 0 };
    let resume = Buffer.alloc(0);
    do {
      const full = { path: '', olderThanSeconds: 0, ...request, resume };
      const step = await this.world.finish(this.#service.empty(full, peer(user)));
      sum.files += step.files;
      sum.directories += step.directories;
      sum.bytes += step.bytes;
      resume = Buffer.from(step.resume);
    } while (resume.length > 0);
    return sum;
  }

  async usage(path = '/'): Promise<{ bytes: number; inodes: number; trashBytes: number; trashInodes: number }> {
    const realms = await this.world.finish(this.world.core.listRealms());
    const realm = realms.find((each) => each.path === path);
    assert.ok(realm);
    const { usedBytes, usedInodes, trashBytes, trashInodes } = realm;
    return { bytes: usedBytes, inodes: usedInodes, trashBytes, trashInodes };
  }

  /** Rows that make up what is there, of the whole member. */
  async rows(): Promise<Record<string, number>> {
    return await this.world.finish(
      this.world.core.engine.run((tx) =>
        Object.fromEntries(
          [INODES, TRASH, TRASH_NAMES, ORPHANS, BLOCKS, DOOMED, XATTRS].map((table) => [
            table.name,
            tx.scan(table as typeof INODES, table.prefix, prefixEnd(table.prefix), 15_000).length,
          ]),
        ),
      ),
    );
  }

  get #service(): TrashService {
    const { core } = this.world;
    return new TrashService({
      engine: core.engine,
      shared: core.shared,
      change: (caller, operation) => core.change(caller, operation),
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.world[Symbol.asyncDispose]();
  }
}

function peer(user: string): PeerIdentity {
  return { uri: subjectUri(user), role: 'user', name: user } as PeerIdentity;
}
