/**
 * The real disk: files below one root folder. An edge: `node:fs` is called here.
 *
 * The lock of a folder is SQLite's lock on a file in it: the kernel frees it when the process dies, however it dies, and it
 * does not care about process ids that are used again. Node has no flock of its own.
 */
import { constants, existsSync, fdatasync, fsync, ftruncate, read, writev } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { CollectiveError } from '../errors/index.ts';
import { AlignedWindows, openDirectly, readDirectly } from './direct-file.ts';
import type { Disk, DiskFile, DiskLock, DiskSpace, OpenMode } from './disk.ts';
import { fileError } from './file-error.ts';

/** Linux: IOV_MAX. */
const BUFFERS_PER_WRITE_MAX = 1024;
const LOCK_FILE = 'lock';
const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;
/** Readable by the owner alone: chunk bytes and the log are nobody else's business. */
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

const readAsync = promisify(read);
const writevAsync = promisify(writev);
const fdatasyncAsync = promisify(fdatasync);
const fsyncAsync = promisify(fsync);
const ftruncateAsync = promisify(ftruncate);

export class FileDisk implements Disk {
  readonly #root: string;
  readonly #windows = new AlignedWindows();

  /** `root` is made if it is not there. */
  static async at(root: string): Promise<FileDisk> {
    try {
      await mkdir(root, { recursive: true, mode: FOLDER_MODE });
    } catch (cause) {
      // A folder that is there is no error.
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw fileError(`Make the folder ${root}`, cause);
      throw new CollectiveError('not_directory', `Use ${root} as a folder: it is a file`, {
        todo: 'Name a folder of this machine.',
      });
    }
    return new FileDisk(root);
  }

  private constructor(root: string) {
    this.#root = root;
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const full = this.#resolve(path);
    if (mode === 'readDirect') {
      const handle = await attempt(`Open ${full}`, () => openDirectly(full, this.#windows));
      if (handle !== undefined) return new RealFile(handle, full, this.#windows);
    }
    const flags = {
      read: constants.O_RDONLY,
      readDirect: constants.O_RDONLY,
      write: constants.O_RDWR,
      create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
    }[mode];
    return new RealFile(await attempt(`Open ${full}`, () => open(full, flags, FILE_MODE)), full);
  }

  async exists(path: string): Promise<boolean> {
    return existsSync(this.#resolve(path));
  }

  async list(folder: string): Promise<string[]> {
    const full = this.#resolve(folder);
    const entries = await attempt(`List ${full}`, () => readdir(full, { withFileTypes: true }));
    return entries.map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name)).sort();
  }

  async makeFolder(folder: string): Promise<void> {
    const full = this.#resolve(folder);
    await attempt(`Make the folder ${full}`, () => mkdir(full, { recursive: true, mode: FOLDER_MODE }));
  }

  async remove(path: string): Promise<void> {
    const full = this.#resolve(path);
    await attempt(`Remove ${full}`, () => rm(full, { force: true }));
  }

  async rename(from: string, to: string): Promise<void> {
    const [fullFrom, fullTo] = [this.#resolve(from), this.#resolve(to)];
    await attempt(`Rename ${fullFrom} to ${fullTo}`, () => rename(fullFrom, fullTo));
  }

  async syncDirectory(folder: string): Promise<void> {
    const full = this.#resolve(folder);
    const handle = await attempt(`Open the folder ${full}`, () =>
      open(full, constants.O_RDONLY | constants.O_DIRECTORY),
    );
    try {
      await attempt(`Sync the folder ${full}`, () => fsyncAsync(handle.fd));
    } finally {
      await handle.close();
    }
  }

  async space(): Promise<DiskSpace> {
    const facts = await attempt(`Ask for the space of ${this.#root}`, () => statfs(this.#root));
    return { capacityBytes: facts.blocks * facts.bsize, freeBytes: facts.bavail * facts.bsize };
  }

  async lock(folder: string): Promise<DiskLock> {
    const path = this.#resolve(join(folder, LOCK_FILE));
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(path);
      // A journal in a file would need room, and a full disk must not keep its owner out.
      database.exec('PRAGMA journal_mode = MEMORY');
      database.exec('BEGIN EXCLUSIVE');
    } catch (cause) {
      database?.close();
      throw await lockError(`Take the folder ${this.#resolve(folder)} for this process`, path, cause);
    }
    const held = database;
    return {
      release: async () => {
        if (held.isOpen) held.close();
      },
    };
  }

  #resolve(path: string): string {
    if (path.startsWith('/') || path.split('/').includes('..'))
      throw new CollectiveError(
        'invalid_argument',
        `Use '${path}' on the disk ${this.#root}: it is not a path below it`,
      );
    return join(this.#root, path);
  }
}

class RealFile implements DiskFile {
  readonly #handle: FileHandle;
  readonly #path: string;

  /** Through which reads go past the kernel's memory. */
  readonly #windows: AlignedWindows | undefined;

  constructor(handle: FileHandle, path: string, windows?: AlignedWindows) {
    this.#handle = handle;
    this.#path = path;
    this.#windows = windows;
  }

  get isDirect(): boolean {
    return this.#windows !== undefined;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    const present = await this.readInto(offset, bytes);
    return bytes.subarray(0, present);
  }

  async readInto(offset: number, into: Uint8Array): Promise<number> {
    const windows = this.#windows;
    if (windows !== undefined)
      return await attempt(`Read ${this.#path}`, () => readDirectly(this.#handle, offset, into, windows));
    let done = 0;
    while (done < into.length) {
      const { bytesRead } = await attempt(`Read ${this.#path}`, () =>
        readAsync(this.#handle.fd, into, done, into.length - done, offset + done),
      );
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  async write(offset: number, buffers: readonly Uint8Array[]): Promise<void> {
    let position = offset;
    for (let first = 0; first < buffers.length; first += BUFFERS_PER_WRITE_MAX)
      position += await this.#writeAll(position, buffers.slice(first, first + BUFFERS_PER_WRITE_MAX));
  }

  async sync(): Promise<void> {
    await attempt(`Sync ${this.#path}`, () => fdatasyncAsync(this.#handle.fd));
  }

  async truncate(size: number): Promise<void> {
    await attempt(`Cut ${this.#path} to ${size} bytes`, () => ftruncateAsync(this.#handle.fd, size));
  }

  async size(): Promise<number> {
    return (await attempt(`Ask for the size of ${this.#path}`, () => this.#handle.stat())).size;
  }

  async close(): Promise<void> {
    await attempt(`Close ${this.#path}`, () => this.#handle.close());
  }

  /** The kernel may take a part only, for one at 2 GiB and near a full disk. */
  async #writeAll(position: number, buffers: readonly Uint8Array[]): Promise<number> {
    let left = buffers.filter((buffer) => buffer.length > 0);
    let written = 0;
    while (left.length > 0) {
      const { bytesWritten } = await attempt(`Write ${this.#path}`, () =>
        writevAsync(this.#handle.fd, left, position + written),
      );
      written += bytesWritten;
      left = dropBytes(left, bytesWritten);
    }
    return written;
  }
}

function dropBytes(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  let dropped = 0;
  let index = 0;
  for (let buffer = buffers[index]; buffer !== undefined && dropped + buffer.length <= count; buffer = buffers[index]) {
    dropped += buffer.length;
    index++;
  }
  const rest = buffers.slice(index);
  const partial = rest[0];
  if (partial !== undefined && dropped < count) rest[0] = partial.subarray(count - dropped);
  return rest;
}

async function attempt<T>(what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (cause) {
    throw fileError(what, cause);
  }
}

/** SQLite says only that it cannot open the file: why not is asked of the operating system. */
async function lockError(what: string, path: string, cause: unknown): Promise<CollectiveError> {
  const { errcode } = cause as { errcode?: number };
  if (errcode === SQLITE_BUSY) return new CollectiveError('data_in_use', `${what}: another one has it`);
  if (errcode === SQLITE_FULL) return fileError(what, Object.assign(new Error('its disk is full'), { code: 'ENOSPC' }));
  try {
    await (await open(path, constants.O_RDWR | constants.O_CREAT, FILE_MODE)).close();
    return new CollectiveError('disk_failed', what, { cause });
  } catch (reason) {
    return fileError(what, reason);
  }
}
