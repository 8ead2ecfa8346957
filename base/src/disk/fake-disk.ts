/**
 * The disk that one process of the simulator or of a test sees: a FakePlatter through handles that die with the process.
 * It can be slow, full or failing, and it can stop its process for ever before any operation, which is how every crash
 * point is tried. A write that is under way when the process dies happens whole, in part, or not at all.
 *
 * After `kill` or `powerLoss` nothing that was asked of this disk is ever answered; `again()` is the disk of the process
 * that is started next.
 */
import type { Clock } from '../clock.ts';
import { CollectiveError } from '../errors/index.ts';
import { type Random, randomBelow, SeededRandom } from '../random.ts';
import type { Disk, DiskFile, DiskLock, DiskSpace, OpenMode } from './disk.ts';
import { type FakeContent, FakeFolder, FakePlatter, namesOf } from './fake-platter.ts';

export interface DiskOperation {
  readonly kind:
    | 'open'
    | 'create'
    | 'read'
    | 'write'
    | 'sync'
    | 'truncate'
    | 'remove'
    | 'rename'
    | 'makeFolder'
    | 'syncDirectory'
    | 'lock';
  readonly path: string;
  readonly bytes: number;
}

/** 'stop': the process is frozen for ever, as by SIGKILL at this point. 'fail': the operation fails with `disk_failed`. */
export type DiskVerdict = 'go' | 'stop' | 'fail';

export interface FakeDiskOptions {
  readonly platter?: FakePlatter;
  /** Without a clock every operation takes no time. */
  readonly clock?: Clock;
  /** How long an operation takes; asked once per operation. */
  readonly latencyMs?: (operation: DiskOperation) => number;
  /** Asked before every operation. */
  readonly before?: (operation: DiskOperation) => DiskVerdict;
  /** False: a file system that cannot read past the kernel's memory. */
  readonly readsDirectly?: boolean;
  /** Decides what of unfinished and unsynced changes is kept. */
  readonly random?: Random;
}

export class FakeDisk implements Disk {
  readonly platter: FakePlatter;
  readonly #options: FakeDiskOptions;
  readonly #random: Random;
  readonly #unfinished = new Set<() => void>();
  #failingSyncs = 0;
  #dead = false;

  constructor(options: FakeDiskOptions = {}) {
    this.#options = options;
    this.platter = options.platter ?? new FakePlatter();
    this.#random = options.random ?? new SeededRandom(1);
    locksOf(this.platter).living.add(this);
  }

  get dead(): boolean {
    return this.#dead;
  }

  /** The next `count` syncs of files fail, and take the pages with them that they should have written. */
  failNextSync(count = 1): void {
    this.#failingSyncs = count;
  }

  /** SIGKILL: handles and locks are gone; what was written stays; what was being written is there whole, in part or not. */
  kill(): void {
    if (this.#dead) return;
    this.#dead = true;
    for (const finishPartly of this.#unfinished) finishPartly();
    this.#unfinished.clear();
    const locks = locksOf(this.platter);
    locks.living.delete(this);
    for (const [folder, owner] of locks.held) if (owner === this) locks.held.delete(folder);
  }

  /** Ends every process on this platter and takes what was not stable, as the random numbers will. */
  powerLoss(random: Random = this.#random): void {
    for (const disk of [...locksOf(this.platter).living]) disk.kill();
    this.platter.powerLoss(random);
  }

  /** The disk as the next process finds it. */
  again(options: Omit<FakeDiskOptions, 'platter'> = {}): FakeDisk {
    return new FakeDisk({ ...this.#options, ...options, platter: this.platter });
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    return this.#operate({ kind: mode === 'create' ? 'create' : 'open', path, bytes: 0 }, () => {
      const found = this.platter.find(path);
      if (mode === 'create') {
        if (found !== undefined) throw new CollectiveError('exists', `Create the file ${path}`);
        return this.#handle(path, this.platter.create(path), true);
      }
      if (found === undefined) throw new CollectiveError('not_found', `Open the file ${path}`);
      if (found instanceof FakeFolder) throw new CollectiveError('is_directory', `Open ${path} as a file`);
      const isDirect = mode === 'readDirect' && this.#options.readsDirectly !== false;
      return this.#handle(path, found, mode === 'write', isDirect);
    });
  }

  async exists(path: string): Promise<boolean> {
    return this.#operate({ kind: 'read', path, bytes: 0 }, () => this.platter.find(path) !== undefined);
  }

  async list(folder: string): Promise<string[]> {
    return this.#operate({ kind: 'read', path: folder, bytes: 0 }, () =>
      [...this.platter.folderAt(folder).entries]
        .map(([name, node]) => (node instanceof FakeFolder ? `${name}/` : name))
        .sort(),
    );
  }

  async makeFolder(folder: string): Promise<void> {
    await this.#operate({ kind: 'makeFolder', path: folder, bytes: 0 }, () => this.platter.makeFolders(folder));
  }

  async remove(path: string): Promise<void> {
    await this.#operate({ kind: 'remove', path, bytes: 0 }, () => {
      const found = this.platter.find(path);
      if (found instanceof FakeFolder) throw new CollectiveError('is_directory', `Remove the file ${path}`);
      if (found !== undefined) this.platter.remove(path);
    });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#operate({ kind: 'rename', path: from, bytes: 0 }, () => this.platter.rename(from, to));
  }

  async syncDirectory(folder: string): Promise<void> {
    await this.#operate({ kind: 'syncDirectory', path: folder, bytes: 0 }, () => this.platter.syncFolder(folder));
  }

  async space(): Promise<DiskSpace> {
    return this.#operate({ kind: 'read', path: '', bytes: 0 }, () => ({
      capacityBytes: this.platter.capacityBytes,
      freeBytes: this.platter.freeBytes,
    }));
  }

  async lock(folder: string): Promise<DiskLock> {
    return this.#operate({ kind: 'lock', path: folder, bytes: 0 }, () => {
      this.platter.folderAt(folder);
      const { held } = locksOf(this.platter);
      const key = namesOf(folder).join('/');
      if (held.has(key)) throw new CollectiveError('data_in_use', `Lock the folder '${folder}'`);
      held.set(key, this);
      return {
        release: async () => {
          if (held.get(key) === this) held.delete(key);
        },
      };
    });
  }

  #handle(path: string, content: FakeContent, writable: boolean, isDirect = false): DiskFile {
    let closed = false;
    const use = <T>(operation: DiskOperation, apply: () => T, onDeath?: () => void): Promise<T> =>
      this.#operate(
        operation,
        () => {
          if (closed) throw new CollectiveError('invalid_argument', `Use the file ${path}, which was closed`);
          if (!writable && (operation.kind === 'write' || operation.kind === 'truncate'))
            throw new CollectiveError('invalid_argument', `Write to the file ${path}, which was opened for reading`);
          return apply();
        },
        onDeath,
      );
    const readInto = (offset: number, into: Uint8Array): Promise<number> =>
      use({ kind: 'read', path, bytes: into.length }, () => content.readInto(offset, into));

    return {
      isDirect,
      readInto,
      read: async (offset, length) => {
        const into = Buffer.alloc(Math.max(0, Math.min(length, content.size - offset)));
        return into.subarray(0, await readInto(offset, into));
      },
      // The buffers are looked at when the write ends: a caller that reuses them too early stores wrong bytes here too.
      write: (offset, buffers) =>
        use(
          { kind: 'write', path, bytes: buffers.reduce((sum, buffer) => sum + buffer.length, 0) },
          () => this.#write(path, content, offset, Buffer.concat(buffers)),
          () => {
            const bytes = Buffer.concat(buffers);
            content.write(offset, bytes.subarray(0, this.#someOf(bytes.length)));
          },
        ),
      sync: async () => {
        const mark = content.beginSync();
        const fails = this.#failingSyncs > 0;
        if (fails) this.#failingSyncs--;
        try {
          await use({ kind: 'sync', path, bytes: content.unsyncedBytes }, () => {
            if (fails) throw new CollectiveError('disk_failed', `Sync the file ${path}`);
            if (!this.platter.ignoreSyncs) content.endSync(mark);
          });
        } catch (thrown) {
          content.failSync(mark, this.#random);
          throw thrown;
        }
      },
      truncate: (size) => use({ kind: 'truncate', path, bytes: 0 }, () => content.truncate(size)),
      size: () => use({ kind: 'read', path, bytes: 0 }, () => content.size),
      close: async () => {
        closed = true;
      },
    };
  }

  #write(path: string, content: FakeContent, offset: number, bytes: Buffer): void {
    const growth = offset + bytes.length - content.size;
    const free = this.platter.freeBytes;
    if (growth > free) {
      content.write(offset, bytes.subarray(0, this.#someOf(Math.max(0, bytes.length - (growth - free)))));
      throw new CollectiveError('no_space', `Write ${bytes.length} bytes to ${path} with ${free} bytes free`);
    }
    content.write(offset, bytes);
  }

  async #operate<T>(operation: DiskOperation, apply: () => T, onDeath?: () => void): Promise<T> {
    const verdict = this.#dead ? 'stop' : (this.#options.before?.(operation) ?? 'go');
    if (verdict === 'stop') {
      if (!this.#dead) {
        onDeath?.();
        this.kill();
      }
      return new Promise(() => undefined);
    }
    const { clock, latencyMs } = this.#options;
    if (clock === undefined) {
      await Promise.resolve();
      if (this.#dead) return new Promise(() => undefined);
    } else {
      await new Promise<void>((resolve) => {
        const partly = (): void => onDeath?.();
        this.#unfinished.add(partly);
        clock.setTimer(latencyMs?.(operation) ?? 0, () => {
          // Only now: whoever dies before this moment leaves a partial change.
          if (this.#unfinished.delete(partly)) resolve();
        });
      });
      if (this.#dead) return new Promise(() => undefined);
    }
    if (verdict === 'fail') {
      onDeath?.();
      throw new CollectiveError('disk_failed', `${operation.kind} on ${operation.path}`);
    }
    return apply();
  }

  /** All, none, or some first bytes. */
  #someOf(length: number): number {
    const manner = randomBelow(this.#random, 3);
    return manner === 0 ? 0 : manner === 1 ? length : randomBelow(this.#random, length + 1);
  }
}

interface PlatterUse {
  readonly living: Set<FakeDisk>;
  readonly held: Map<string, FakeDisk>;
}

const uses = new WeakMap<FakePlatter, PlatterUse>();

/** Who uses a platter now; both are gone when the machine is. */
function locksOf(platter: FakePlatter): PlatterUse {
  let use = uses.get(platter);
  if (use === undefined) {
    use = { living: new Set(), held: new Map() };
    uses.set(platter, use);
  }
  return use;
}
