/**
 * Local files and trees into the member. Directories are made before what is in them, their times set after it; links
 * are stored as links below -r; sockets, devices and pipes are named and left out.
 */
import type { BigIntStats } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { WriteOptions } from '@collective/client';
import { localError } from '../local-error.ts';
import { printable } from '../output/printable.ts';
import { joinRemote, NOT_UTF8 } from '../remote-path.ts';
import { type CopyRun, LARGE_FILE_BYTES } from './copy-run.ts';
import { FollowedLinks } from './followed-links.ts';
import { isSameTime, modifiedOf } from './local-time.ts';
import { replaceName } from './replace-name.ts';

/** One read of a local file: as long as a block, so that each becomes one chunk without a copy. */
const READ_BYTES = 4 * 1024 * 1024;
const MODE_BITS = 0o7777n;

interface FinishedFolder {
  readonly path: string;
  readonly stats: BigIntStats;
}

export async function uploadTree(run: CopyRun, from: string, to: string): Promise<void> {
  const folders: FinishedFolder[] = [];
  await uploadEntry(run, from, to, folders, undefined);
  await run.idle();
  // Children change the time of their folder, so the deepest come first.
  for (const { path, stats } of folders.reverse()) {
    await run.step(async () => {
      await run.files.setAttributes(
        path,
        { mode: Number(stats.mode & MODE_BITS), modified: modifiedOf(stats) },
        { signal: run.signal },
      );
    });
  }
}

/** Sums of a local tree, for the progress line. */
export async function countLocal(from: string, signal: AbortSignal): Promise<{ bytes: number; files: number }> {
  const stats = await lstat(from);
  if (!stats.isDirectory()) return { bytes: stats.isFile() ? stats.size : 0, files: 1 };
  let bytes = 0;
  let files = 0;
  for (const name of await readdir(from)) {
    signal.throwIfAborted();
    const below = await countLocal(join(from, name), signal);
    bytes += below.bytes;
    files += below.files;
  }
  return { bytes, files };
}

/** `entered`: the directories above, unset for what the person named. */
async function uploadEntry(
  run: CopyRun,
  from: string,
  to: string,
  folders: FinishedFolder[],
  entered: FollowedLinks | undefined,
): Promise<void> {
  let stats: BigIntStats | undefined;
  await run.step(async () => {
    // What the person named is followed unless the copy is recursive, as cp does.
    const follow = run.options.dereference || (entered === undefined && !run.options.recursive);
    stats = await (follow ? stat(from, { bigint: true }) : lstat(from, { bigint: true })).catch((cause: unknown) => {
      throw localError(`Read ${from}`, cause);
    });
  });
  if (stats === undefined) return;
  const found = stats;
  if (found.isDirectory()) return await uploadFolder(run, from, to, found, folders, entered ?? new FollowedLinks());
  if (found.isFile()) {
    const sizeBytes = Number(found.size);
    return await run.start(sizeBytes, () => uploadFile(run, from, to, found));
  }
  await run.step(async () => {
    if (!found.isSymbolicLink()) {
      throw new CollectiveError('unsupported', `Store ${from}: it is neither file, directory nor link`, {
        todo: 'It is left out; the rest is copied.',
      });
    }
    await storeLink(run, await localLink(from), to);
  });
}

async function uploadFolder(
  run: CopyRun,
  from: string,
  to: string,
  stats: BigIntStats,
  folders: FinishedFolder[],
  above: FollowedLinks,
): Promise<void> {
  let names: readonly Buffer[] = [];
  let entered = above;
  const made = await run.step(async () => {
    if (!run.options.recursive)
      throw new CollectiveError('is_directory', `Store ${from}: it is a directory; -r copies it`);
    entered = above.into(from, `${stats.dev}:${stats.ino}`);
    await makeRemoteFolder(run, to);
    names = await readdir(from, { encoding: 'buffer' }).catch((cause: unknown) => {
      throw localError(`Read the directory ${from}`, cause);
    });
  });
  if (!made) return;
  if (run.options.preserve) folders.push({ path: to, stats });
  for (const bytes of names) {
    run.signal.throwIfAborted();
    const name = bytes.toString();
    if (name.includes(NOT_UTF8) && !Buffer.from(name).equals(bytes)) {
      await run.step(async () => refuseName(from, bytes));
      continue;
    }
    await uploadEntry(run, join(from, name), joinRemote(to, name), folders, entered);
  }
}

function refuseName(folder: string, bytes: Buffer): never {
  const shown = printable(bytes.toString('latin1')).replace(
    /[\u00a0-\u00ff]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16)}`,
  );
  throw new CollectiveError('invalid_name', `Store ${join(folder, shown)}: its name is not UTF-8`, {
    todo: 'Give it a name in UTF-8; the rest is copied.',
  });
}

async function localLink(path: string): Promise<string> {
  const target = await readlink(path, { encoding: 'buffer' });
  const text = target.toString();
  if (Buffer.from(text).equals(target)) return text;
  throw new CollectiveError('invalid_name', `Store ${path}: the target of this link is not UTF-8`, {
    todo: 'It is left out; the rest is copied.',
  });
}

export async function makeRemoteFolder(run: CopyRun, path: string): Promise<void> {
  try {
    await run.files.mkdir(path, { mode: 0o755, signal: run.signal });
  } catch (thrown) {
    if (!(thrown instanceof CollectiveError) || thrown.code !== 'exists') throw thrown;
    const { type } = await run.files.stat(path, { signal: run.signal });
    if (type !== 'directory') throw new CollectiveError('not_directory', `Copy into ${path}: it is no directory`);
  }
}

async function uploadFile(run: CopyRun, from: string, to: string, stats: BigIntStats): Promise<void> {
  const { files, options, signal } = run;
  const sizeBytes = Number(stats.size);
  const modified = modifiedOf(stats);
  if (options.continue && (await isThere(run, to, sizeBytes, modified))) {
    run.addBytes(sizeBytes);
    return;
  }
  let reported = 0;
  const how: WriteOptions = {
    ...(options.preserve ? { mode: Number(stats.mode & MODE_BITS), modified } : {}),
    replace: options.replace,
    sizeHintBytes: sizeBytes,
    signal,
    onProgress: ({ storedBytes }) => {
      run.addBytes(storedBytes - reported);
      reported = storedBytes;
    },
  };
  // What fits in a block goes as one piece, which costs least.
  const small = sizeBytes <= READ_BYTES ? await smallContent(from, sizeBytes) : undefined;
  if (small !== undefined) await files.write(to, small, how);
  else if (sizeBytes <= LARGE_FILE_BYTES) await files.write(to, localPieces(from, 0, signal), how);
  else {
    const source = (offset: number): AsyncGenerator<Buffer> => localPieces(from, offset, signal);
    await files.write(to, source(0), { ...how, resume: { identity: { sizeBytes, modified }, source } });
  }
  run.addBytes(sizeBytes - reported);
}

/** All of a file; undefined when it has grown beyond its size. */
async function smallContent(path: string, sizeBytes: number): Promise<Buffer | undefined> {
  const file = await openLocal(path);
  try {
    const buffer = Buffer.allocUnsafe(sizeBytes + 1);
    let length = 0;
    while (length < buffer.length) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
      if (bytesRead === 0) return buffer.subarray(0, length);
      length += bytesRead;
    }
    return undefined;
  } finally {
    await file.close();
  }
}

async function openLocal(path: string): Promise<FileHandle> {
  return await open(path, 'r').catch((cause: unknown) => {
    throw localError(`Open ${path}`, cause);
  });
}

/** Whether an earlier copy has put the same content there already. */
export async function isThere(run: CopyRun, to: string, sizeBytes: number, modified: Timestamp): Promise<boolean> {
  try {
    const there = await run.files.stat(to, { signal: run.signal });
    return there.type === 'file' && there.sizeBytes === sizeBytes && isSameTime(there.modified, modified);
  } catch (thrown) {
    if (thrown instanceof CollectiveError && thrown.code === 'not_found') return false;
    throw thrown;
  }
}

async function* localPieces(path: string, offset: number, signal: AbortSignal): AsyncGenerator<Buffer> {
  const file = await openLocal(path);
  try {
    for (let at = offset; ; ) {
      signal.throwIfAborted();
      const buffer = Buffer.allocUnsafe(READ_BYTES);
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

export async function storeLink(run: CopyRun, target: string, to: string): Promise<void> {
  const { files, options, signal } = run;
  try {
    await files.symlink(target, to, { signal });
  } catch (thrown) {
    const exists = thrown instanceof CollectiveError && thrown.code === 'exists';
    if (!exists || !options.replace) throw thrown;
    const there = await files.lstat(to, { signal });
    if (there.type === 'directory')
      throw new CollectiveError('is_directory', `Make the link ${to}: there is a directory of this name`);
    if (there.type === 'symlink' && (await files.readlink(to, { signal })) === target) return;
    await replaceName(files, to, (aside) => files.symlink(target, aside, { signal }), signal);
  }
}
