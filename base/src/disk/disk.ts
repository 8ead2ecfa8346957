/**
 * The disk as a port, as narrow as our formats need. `file-disk.ts` is the real one; `fake-disk.ts` keeps apart what was
 * written and what was synced, so that the simulator can take away power, tear writes and fail syncs.
 *
 * Paths are relative to the disk's root, with '/' and without '..'. A write is *written* (survives SIGKILL) when its
 * promise resolves; it is *stable* after `sync` of the file and, for a new or renamed name, `syncDirectory` of its folder.
 */

export interface DiskSpace {
  readonly capacityBytes: number;
  /** Free to this process, after what the file system reserves. */
  readonly freeBytes: number;
}

/** 'readDirect': as 'read', but what is read is what the disk has now, not what the kernel remembers, where the file system can do that. */
export type OpenMode = 'read' | 'readDirect' | 'write' | 'create';

export interface DiskFile {
  /** Reads are answered by the disk itself. */
  readonly isDirect: boolean;
  /** Returns fewer bytes only at the end of the file. */
  read(offset: number, length: number): Promise<Buffer>;
  /** Fills `into` from `offset`; returns how many bytes there were. Saves the allocation of `read`. */
  readInto(offset: number, into: Uint8Array): Promise<number>;
  /** Writes all buffers one after the other from `offset`. Fails as a whole with `no_space` or `disk_failed`; then any part may have been written. */
  write(offset: number, buffers: readonly Uint8Array[]): Promise<void>;
  /** fdatasync: contents and size. Throws `disk_failed`; after that, what was not stable must not be trusted (D4). */
  sync(): Promise<void>;
  truncate(size: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

export interface DiskLock {
  release(): Promise<void>;
}

export interface Disk {
  /** 'create' demands that the file does not exist (`exists`), all others that it does (`not_found`). */
  open(path: string, mode: OpenMode): Promise<DiskFile>;
  exists(path: string): Promise<boolean>;
  /** Names in a folder, sorted; folders end in '/'. */
  list(folder: string): Promise<string[]>;
  /** With parents; no error if it exists. */
  makeFolder(folder: string): Promise<void>;
  /** No error if the file is already away. */
  remove(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  syncDirectory(folder: string): Promise<void>;
  space(): Promise<DiskSpace>;
  /** Takes the folder for this process until release or death; `data_in_use` if another holds it. */
  lock(folder: string): Promise<DiskLock>;
}

/** The whole of a small file (at most `maxBytes`), or undefined if there is none. */
export async function readWhole(disk: Disk, path: string, maxBytes = 16 * 1024 * 1024): Promise<Buffer | undefined> {
  if (!(await disk.exists(path))) return undefined;
  const file = await disk.open(path, 'read');
  try {
    return await file.read(0, Math.min(await file.size(), maxBytes));
  } finally {
    await file.close();
  }
}

/** Replaces a small file so that a crash leaves the old or the new content, never a mix: write aside, sync, rename, sync the folder. */
export async function replaceWhole(disk: Disk, path: string, content: Uint8Array): Promise<void> {
  const aside = `${path}.new`;
  await disk.remove(aside);
  const file = await disk.open(aside, 'create');
  try {
    await file.write(0, [content]);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(aside, path);
  const slash = path.lastIndexOf('/');
  await disk.syncDirectory(slash < 0 ? '' : path.slice(0, slash));
}
