/**
 * Local files and trees into the member. Directories are made before what is in them, their times set after it; links
 * are stored as links below -r; sockets, devices and pipes are named and left out.
 */
import type { BigIntStats } from 'node:fs';
import { lstat, open, readdir, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { joinRemote } from '../remote-path.ts';
import { type CopyRun, LARGE_FILE_BYTES } from './copy-run.ts';
import { isSameTime, modifiedOf } from './local-time.ts';

/** One read of a local file: as long as a block, so that each becomes one chunk without a copy. */
const READ_BYTES = 4 * 1024 * 1024;
const MODE_BITS = 0o7777n;

interface FinishedFolder {
  readonly path: string;
  readonly stats: BigIntStats;
}

export async function uploadTree(run: CopyRun, from: string, to: string): Promise<void> {
  const folders: FinishedFolder[] = [];
  await uploadEntry(run, from, to, folders, true);
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

async function uploadEntry(
  run: CopyRun,
  from: string,
  to: string,
  folders: FinishedFolder[],
  named: boolean,
): Promise<void> {
  let stats: BigIntStats | undefined;
  await run.step(async () => {
    // What the person named is followed unless the copy is recursive, as cp does.
    const follow = run.options.dereference || (named && !run.options.recursive);
    stats = await (follow ? stat(from, { bigint: true }) : lstat(from, { bigint: true })).catch((cause: unknown) => {
      throw localError(`Read ${from}`, cause);
    });
  });
  if (stats === undefined) return;
  const found = stats;
  if (found.isDirectory()) return await uploadFolder(run, from, to, found, folders);
  if (found.isFile()) {
    const sizeBytes = Number(found.size);
    return await run.start(sizeBytes, () => uploadFile(run, from, to, found));
  }
  await run.step(async () => {
    if (!found.isSymbolicLink()) {
      throw new CollectiveError('unsupported', `Store ${from}: it is neither file, directory nor link`);
    }
    await storeLink(run, await readlink(from), to);
  });
}

async function uploadFolder(
  run: CopyRun,
  from: string,
  to: string,
  stats: BigIntStats,
  folders: FinishedFolder[],
): Promise<void> {
  let names: string[] = [];
  const made = await run.step(async () => {
    if (!run.options.recursive)
      throw new CollectiveError('is_directory', `Store ${from}: it is a directory; -r copies it`);
    await makeRemoteFolder(run, to);
    names = await readdir(from).catch((cause: unknown) => {
      throw localError(`Read the directory ${from}`, cause);
    });
  });
  if (!made) return;
  if (run.options.preserve) folders.push({ path: to, stats });
  for (const name of names) {
    run.signal.throwIfAborted();
    await uploadEntry(run, join(from, name), joinRemote(to, name), folders, false);
  }
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
  if (options.continue && (await isThere(run, to, sizeBytes, stats))) {
    run.addBytes(sizeBytes);
    return;
  }
  let reported = 0;
  await files.write(to, localPieces(from, 0, signal), {
    ...(options.preserve ? { mode: Number(stats.mode & MODE_BITS), modified } : {}),
    replace: options.replace,
    sizeHintBytes: sizeBytes,
    signal,
    onProgress: ({ storedBytes }) => {
      run.addBytes(storedBytes - reported);
      reported = storedBytes;
    },
    ...(sizeBytes > LARGE_FILE_BYTES
      ? {
          resume: {
            identity: { sizeBytes, modified },
            source: (offset: number) => localPieces(from, offset, signal),
          },
        }
      : {}),
  });
  run.addBytes(sizeBytes - reported);
}

async function isThere(run: CopyRun, to: string, sizeBytes: number, stats: BigIntStats): Promise<boolean> {
  try {
    const there = await run.files.stat(to, { signal: run.signal });
    return there.type === 'file' && there.sizeBytes === sizeBytes && isSameTime(there.modified, modifiedOf(stats));
  } catch (thrown) {
    if (thrown instanceof CollectiveError && thrown.code === 'not_found') return false;
    throw thrown;
  }
}

async function* localPieces(path: string, offset: number, signal: AbortSignal): AsyncGenerator<Buffer> {
  const file = await open(path, 'r').catch((cause: unknown) => {
    throw localError(`Open ${path}`, cause);
  });
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
  try {
    await run.files.symlink(target, to, { signal: run.signal });
  } catch (thrown) {
    const exists = thrown instanceof CollectiveError && thrown.code === 'exists';
    if (!exists || !run.options.replace) throw thrown;
    const aside = `${to}.link`;
    await run.files.remove(aside, { force: true, signal: run.signal });
    await run.files.symlink(target, aside, { signal: run.signal });
    await run.files.rename(aside, to, { mode: 'replace', signal: run.signal });
  }
}

/** Errors of the local file system in our words: the code decides the exit code. */
export function localError(doing: string, cause: unknown): CollectiveError {
  const errno = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  switch (errno) {
    case 'ENOENT':
      return new CollectiveError('not_found', `${doing} on this machine`, { cause });
    case 'EACCES':
    case 'EPERM':
      return new CollectiveError('permission_denied', `${doing} on this machine`, { cause });
    case 'ENOSPC':
    case 'EDQUOT':
      return new CollectiveError('no_space', `${doing} on this machine`, { cause });
    case 'EEXIST':
      return new CollectiveError('exists', `${doing} on this machine`, { cause });
    case 'ENOTDIR':
      return new CollectiveError('not_directory', `${doing} on this machine`, { cause });
    case 'EISDIR':
      return new CollectiveError('is_directory', `${doing} on this machine`, { cause });
    default:
      return toCollectiveError(cause, `${doing} on this machine`);
  }
}
