/** The trash over unary calls: long ones are made of many, each with the mark that the last one gave. */
import type {
  AdminClient,
  TrashPage,
  EmptiedTrash as WireEmptied,
  TrashEntry as WireEntry,
  RestoredTrash as WireRestored,
} from '@collective/protocol/gen/admin';
import type { Begin, Done } from './admin.ts';
import type { CallOptions } from './api.ts';
import { typeOf } from './files/attributes.ts';
import type { EmptiedTrash, RestoredTrash, Trash, TrashEntry } from './trash-api.ts';

const PAGE_ENTRIES = 200;
const SKIPPED_PATHS_MAX = 5;

type Call = <T>(what: string, options: CallOptions, begin: Begin<T>) => Promise<T>;

export class MemberTrash implements Trash {
  readonly #client: () => AdminClient;
  readonly #call: Call;

  constructor(client: () => AdminClient, call: Call) {
    this.#client = client;
    this.#call = call;
  }

  async *list(options: Parameters<Trash['list']>[0] = {}): AsyncGenerator<TrashEntry, void, undefined> {
    const { path = '' } = options;
    let before = 0;
    do {
      const request = { path, limit: PAGE_ENTRIES, before };
      const page = await this.#call('List the trash', options, (done: Done<TrashPage>) =>
        this.#client().listTrash(request, done),
      );
      for (const entry of page.entries) yield entryOf(entry);
      before = page.next;
    } while (before !== 0);
  }

  async restore(
    what: Parameters<Trash['restore']>[0],
    options: Parameters<Trash['restore']>[1] = {},
  ): Promise<RestoredTrash> {
    const { to = '', at, onProgress } = options;
    const named = 'id' in what ? { id: what.id, path: '' } : { id: 0, path: what.path };
    const shown = 'id' in what ? `entry ${what.id}` : what.path;
    const sum = { path: '', files: 0, directories: 0, bytes: 0, skipped: 0, skippedPaths: [] as string[] };
    let resume = Buffer.alloc(0);
    do {
      const request = { ...named, to, at, resume };
      const step = await this.#call(`Restore ${shown}`, options, (done: Done<WireRestored>) =>
        this.#client().restoreTrash(request, done),
      );
      sum.path ||= step.path;
      sum.files += step.files;
      sum.directories += step.directories;
      sum.bytes += step.bytes;
      sum.skipped += step.skipped;
      sum.skippedPaths.push(...step.skippedPaths.slice(0, SKIPPED_PATHS_MAX - sum.skippedPaths.length));
      resume = Buffer.from(step.resume);
      onProgress?.(sum);
    } while (resume.length > 0);
    return sum;
  }

  async empty(options: Parameters<Trash['empty']>[0] = {}): Promise<EmptiedTrash> {
    const { path = '', olderThanSeconds = 0, onProgress } = options;
    const sum = { files: 0, directories: 0, bytes: 0 };
    let resume = Buffer.alloc(0);
    do {
      const request = { path, olderThanSeconds, resume };
      const step = await this.#call('Empty the trash', options, (done: Done<WireEmptied>) =>
        this.#client().emptyTrash(request, done),
      );
      sum.files += step.files;
      sum.directories += step.directories;
      sum.bytes += step.bytes;
      resume = Buffer.from(step.resume);
      onProgress?.(sum);
    } while (resume.length > 0);
    return sum;
  }
}

function entryOf(wire: WireEntry): TrashEntry {
  return { ...wire, type: typeOf(wire.type), deleted: wire.deleted ?? { seconds: 0, nanos: 0 } };
}
